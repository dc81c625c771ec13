"""C++ and CUDA sources as tokens, each with where it stands: in code that runs, or in what only declares."""

import re
from dataclasses import dataclass

TOKEN = re.compile(r"""
    (?P<comment>//[^\n]*|/\*.*?\*/)
  | (?P<string>(?:u8|u|U|L)?R"(?P<mark>[^()\s]*)\(.*?\)(?P=mark)"|(?:u8|u|U|L)?"(?:\\.|[^"\\\n])*")
  | (?P<char>(?:u8|u|U|L)?'(?:\\.|[^'\\\n])+')
  | (?P<number>\.?\d(?:[eEpP][+-]|'(?=\w)|[\w.])*)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<punct><<=|>>=|<=>|\.\.\.|->\*|::|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[^\s\w])
""", re.VERBOSE | re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*\#(?:\\\n|[^\n])*", re.MULTILINE)

# What a brace opens, and what may be changed there.
NAMESPACE, CLASS, ENUM, CODE, VALUE = "namespace", "class", "enum", "code", "value"


@dataclass
class Token:
    kind: str  # string, char, number, word, punct
    text: str
    start: int
    end: int
    scope: str = NAMESPACE  # CODE: within a function; VALUE: of a constant or a member; else a declaration
    partner: int = -1  # of a bracket: the index of its other half

    def spaced(self, source):
        """A binary operator as clang-format sets it, with a space on both sides; no template's bracket, no pointer."""
        return source[self.start - 1:self.start].isspace() and source[self.end:self.end + 1].isspace()


def tokens(source):
    """The tokens of `source` without comments and preprocessor lines, with scopes and partners."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group())
    # Comments first, so that one with a # in it is no directive; strings keep theirs.
    bare = TOKEN.sub(lambda m: blank(m) if m.lastgroup == "comment" else m.group(), source)
    bare = DIRECTIVE.sub(blank, bare)
    result = []
    for match in TOKEN.finditer(bare):
        kind = "string" if match.group("string") else match.lastgroup
        result.append(Token(kind, match.group(), match.start(), match.end()))
    _set_partners(result)
    _set_scopes(result)
    return result


def _set_partners(result):
    opened = []
    for index, token in enumerate(result):
        if token.kind != "punct":
            continue
        if token.text in "([{":
            opened.append(index)
        elif token.text in ")]}" and opened:
            result[opened[-1]].partner, token.partner = index, opened[-1]
            opened.pop()


def _set_scopes(result):
    stack, head = [NAMESPACE], []  # head: the tokens of a declaration as far as it has come
    for index, token in enumerate(result):
        scope = stack[-1]
        token.scope = VALUE if scope in (NAMESPACE, CLASS) and _gives_value(head) else scope
        if token.text == "{" and token.kind == "punct":
            stack.append(_opened(scope, head))
            if stack[-1] in (NAMESPACE, CLASS):
                head = []
            continue
        if token.text == "}" and token.kind == "punct":
            closed = stack.pop() if len(stack) > 1 else NAMESPACE
            following = result[index + 1].text if index + 1 < len(result) else ""
            # After a member's initial value in a constructor's list the function is still to come.
            if stack[-1] in (NAMESPACE, CLASS) and not (closed in (CODE, VALUE) and following in (",", "{", ";")):
                head = []
            continue
        if token.text == ";" and token.kind == "punct":
            head = []
        elif stack[-1] in (NAMESPACE, CLASS):
            head.append(token)


def _gives_value(head):
    """What follows is the value of a constant or a member: `constexpr int kRows =`, `int rows =`."""
    if not head or head[0].text in ("template", "using", "typedef", "namespace", "friend", "virtual"):
        return False
    words = [token.text for token in head]
    return "=" in words and "(" not in words[:words.index("=")] and "operator" not in words


def _opened(scope, head):
    if scope in (CODE, VALUE):
        words = {token.text for token in head}
        return CODE if scope == CODE or "(" in words else VALUE
    words = [token.text for token in head]
    if "namespace" in words or words[:1] == ["extern"] and len(words) == 2:
        return NAMESPACE
    if "enum" in words:
        return ENUM
    if _gives_value(head):
        return VALUE
    if "(" in words:
        return CODE
    if {"struct", "class", "union"} & set(words):
        return CLASS
    return VALUE
