#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>

#include "tokenizer/chat_template.h"

// A Modelfile, by which Ollama takes a GGUF file in (ollama create NAME -f Modelfile). llama.cpp runs the Jinja template
// that lies in the GGUF file; Ollama has templates of its own, in Go's text/template.
namespace qgrpo::exporting {

// What stands around the contents of a conversation that begins with a system message, or does not, and in which the user
// and the assistant take turns.
struct ChatPieces {
  std::string before_system;  // at the beginning, before a system message
  std::string after_system;   // up to the first user's content
  std::string
      before_first;  // at the beginning, before the first user's content where there is no system message
  std::string before_user;  // behind an assistant's turn
  std::string after_user;
  std::string before_assistant;
  std::string after_assistant;
  std::string prompt;  // what the assistant goes on from: before_assistant, or more
};

// The text of a conversation, ready for the assistant to answer or not, as a chat template renders it.
using RenderChat =
    std::function<std::string(std::span<const tokenizer::Message>, bool add_generation_prompt)>;

// Finds the pieces by rendering, and checks on longer conversations that they make the same text. Nothing where a
// template does something else (what is not in the pieces: tools, other roles, what depends on the contents).
std::optional<ChatPieces> chat_pieces(const RenderChat& render);

// The text that go_template() renders: the same rules.
std::string render_pieces(const ChatPieces& pieces, std::span<const tokenizer::Message> messages,
                          bool add_generation_prompt);
// A template of Ollama's with these pieces. `bos`: the text of a token that Ollama puts before the text itself.
std::string go_template(ChatPieces pieces, const std::string& bos);

// The Modelfile of a GGUF file (a path from the Modelfile's folder) that was made of `model`: FROM, TEMPLATE where the
// model has a chat template, SYSTEM where one is given, stop strings (the model's end tokens), and the sampling defaults
// of generation_config.json. Throws Error where the chat template cannot be said, or a text cannot stand in a Modelfile.
std::string modelfile(const std::string& model, const std::string& gguf,
                      const std::optional<std::string>& system);

}  // namespace qgrpo::exporting
