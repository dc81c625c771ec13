"""Mutants by rule: every place of a source at which a small change makes other code.

A place is in code that runs (a function's body, the value of a constant): never in a comment, a string, an
include, a declaration, an enum, a static_assert, or in what only words an error or a note.
"""

import re
from dataclasses import dataclass

from .cpp_tokens import CODE, VALUE, tokens

SWAPPED = {
    "compare": {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="},
    "logic": {"&&": "||", "||": "&&"},
    "arithmetic": {"+": "-", "-": "+", "*": "/", "/": "*", "%": "*"},
    "bits": {"&": "|", "|": "&", "^": "|", "<<": ">>", ">>": "<<"},
    "assign": {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*=", "|=": "&=", "&=": "|="},
    "word": {"true": "false", "false": "true", "min": "max", "max": "min", "break": "continue", "continue": "break"},
}
# Calls whose arguments are words for people, or that change nothing but the speed.
SILENT = {"format", "print", "println", "format_to", "static_assert", "assert", "reserve", "prefetch", "fail", "Error"}
NOT_CALLS = {"if", "for", "while", "switch", "return", "sizeof", "alignof", "catch", "decltype", "throw", "else",
             "static_cast", "reinterpret_cast", "const_cast", "requires", "noexcept", "constexpr", "alignas"}
# In them the order of the arguments is nothing.
SYMMETRIC = {"min", "max", "fmin", "fmax", "fminf", "fmaxf", "swap", "gcd"}
NO_STATEMENT = {"if", "for", "while", "switch", "case", "default", "do", "else", "try", "catch", "using", "typedef",
                "static", "const", "constexpr", "auto", "struct", "class", "enum", "template", "goto", "static_assert",
                "extern", "return", "public", "private", "protected", "friend", "asm", "__shared__", "unsigned"}
DECLARES = re.compile(r"(?:(?:typename|unsigned|long|short)\s+)*[A-Za-z_]\w*(?:\s*::\s*[A-Za-z_]\w*)*\s*(?:<[^;()]*>)?"
                      r"(?:\s*::\s*\w+)*\s*[&*]*\s+[&*]*[A-Za-z_]\w*\s*(?:[=({;,\[]|$)")


@dataclass(frozen=True)
class Mutant:
    rule: str
    start: int  # what is replaced: source[start:end]
    end: int
    text: str

    def applied(self, source):
        """The changed source; every line stays on its number."""
        lost = source.count("\n", self.start, self.end) - self.text.count("\n")
        return source[:self.start] + self.text + "\n" * max(lost, 0) + source[self.end:]

    def line(self, source):
        return source.count("\n", 0, self.start) + 1

    def shown(self, source):
        """(before, after): the lines that change, without their indentation."""
        first = source.rfind("\n", 0, self.start) + 1
        last = source.find("\n", self.end)
        last = len(source) if last < 0 else last
        after = source[first:self.start] + self.text + source[self.end:last]
        return " ".join(source[first:last].split()), " ".join(after.split())


def mutants(source):
    """All mutants of a source, in the order of the rules and of the text."""
    all_tokens = tokens(source)
    silent = _silent(all_tokens)
    places = [i for i, t in enumerate(all_tokens) if i not in silent and t.scope in (CODE, VALUE)]
    found = []
    for rule in (_operators, _negations, _bounds, _numbers, _conditions, _dropped, _swapped_arguments):
        found += rule(source, all_tokens, places)
    return found


def _silent(all_tokens):
    """Indices of tokens that say something instead of doing it; a statement `throw ...;` may still be dropped."""
    silent = set()
    for index, token in enumerate(all_tokens):
        if token.text == "throw" and token.kind == "word":
            end = index
            while end < len(all_tokens) and all_tokens[end].text != ";":
                end += 1
            silent.update(range(index + 1, end))
        if token.text != "(" or token.partner < 0:
            continue
        before = all_tokens[index - 1] if index else token
        if before.kind == "word" and before.text in SILENT:
            silent.update(range(index + 1, token.partner))
            continue
        # What follows a text within a call goes into that text: require(a == b, "found {}, expected {}", a, b).
        for inner in range(index + 1, token.partner):
            text = all_tokens[inner]
            if text.kind == "string" and " " in text.text and all_tokens[inner - 1].text in ("(", ","):
                silent.update(range(inner, token.partner))
                break
    return silent


def _operators(source, all_tokens, places):
    found = []
    for index in places:
        token = all_tokens[index]
        for rule, changes in SWAPPED.items():
            if token.text not in changes or token.kind not in ("punct", "word"):
                continue
            if rule != "word" and not token.spaced(source):
                continue
            if rule == "word" and all_tokens[index - 1].text in (".", "->"):
                continue
            if token.text in ("min", "max") and all_tokens[index + 1].text != "(":
                continue
            found.append(Mutant(rule, token.start, token.end, changes[token.text]))
        if token.text in ("++", "--") and not _in_loop_head(all_tokens, index):
            found.append(Mutant("assign", token.start, token.end, "--" if token.text == "++" else "++"))
    return found


def _in_loop_head(all_tokens, index):
    for opening in range(index, -1, -1):
        token = all_tokens[opening]
        if token.text in ("{", "}"):
            return False
        if token.text == "(" and token.partner > index and all_tokens[opening - 1].text in ("for", "while"):
            return True
    return False


def _negations(source, all_tokens, places):
    """A unary - or ! left out."""
    found = []
    for index in places:
        token = all_tokens[index]
        if token.text in ("-", "!") and not source[token.end:token.end + 1].isspace() and not token.spaced(source):
            before = all_tokens[index - 1]
            if before.kind in ("punct", "word") and before.text not in (")", "]"):
                found.append(Mutant("sign", token.start, token.end, ""))
    return found


def _bounds(source, all_tokens, places):
    """The bound of a loop, one less and one more."""
    found, allowed = [], set(places)
    for index, token in enumerate(all_tokens):
        if token.text != "for" or index + 1 >= len(all_tokens) or all_tokens[index + 1].text != "(":
            continue
        closing = all_tokens[index + 1].partner
        at = _find(all_tokens, ";", index + 2, closing)
        end = _find(all_tokens, ";", at + 1, closing) if at > 0 else -1
        if end < 0:
            continue
        for inner in range(at + 1, end):
            compare = all_tokens[inner]
            if inner in allowed and compare.text in ("<", "<=", ">", ">=") and compare.spaced(source):
                stop = next((k for k in range(inner + 1, end) if all_tokens[k].text in ("&&", "||")), end)
                for change in (" - 1", " + 1"):
                    place = all_tokens[stop - 1].end
                    found.append(Mutant("bound", place, place, change))
                break
    return found


def _find(all_tokens, text, first, last):
    """The index of `text` in [first, last), outside of brackets that open there; -1: none."""
    index = first
    while index < last:
        token = all_tokens[index]
        if token.text == text and token.kind == "punct":
            return index
        index = token.partner if token.kind == "punct" and token.text in "([{" and token.partner > index else index
        index += 1
    return -1


def _numbers(source, all_tokens, places):
    found = []
    for index in places:
        token = all_tokens[index]
        if token.kind != "number":
            continue
        whole = re.fullmatch(r"(\d[\d']*|0[xX][\da-fA-F']+)([uUlLzZ]*)", token.text)
        if whole:
            digits, suffix = whole.group(1).replace("'", ""), whole.group(2)
            value = int(digits, 16) if digits[:2].lower() == "0x" else int(digits, 8 if digits[:1] == "0" else 10)
            for changed in (value - 1, value + 1):
                if changed >= 0:
                    found.append(Mutant("constant", token.start, token.end, f"{changed}{suffix}"))
        elif re.match(r"0?\.0*[fF]?$|0\.0*[fF]?$", token.text):
            found.append(Mutant("constant", token.start, token.end, token.text.replace("0", "1", 1)))
        else:
            found.append(Mutant("constant", token.start, token.end, f"(2 * {token.text})"))
    return found


def _conditions(source, all_tokens, places):
    """`if` the other way round."""
    found = []
    for index in places:
        token = all_tokens[index]
        if token.text != "if" or all_tokens[index + 1].text != "(" or all_tokens[index + 1].partner < 0:
            continue
        first, closing = index + 2, all_tokens[index + 1].partner
        after_init = _find(all_tokens, ";", first, closing)
        first = after_init + 1 if after_init > 0 else first
        start, end = all_tokens[first].start, all_tokens[closing].start
        found.append(Mutant("condition", start, end, f"!({source[start:end]})"))
    return found


def _dropped(source, all_tokens, places):
    """A statement left out: an assignment, a call, a throw, a break; no declaration and no return of a value."""
    found = []
    for index in places:
        token, before = all_tokens[index], all_tokens[index - 1]
        starts = before.text in (";", "{", "}", "else", "do") or before.text == ")" and _controls(all_tokens, index - 1)
        if token.scope != CODE or not starts or token.kind == "punct" and token.text not in ("++", "--", "*", "("):
            continue
        if _in_loop_head(all_tokens, index):
            continue
        end = _find(all_tokens, ";", index, len(all_tokens))
        closing = _find(all_tokens, "}", index, len(all_tokens))
        if end < 0 or 0 <= closing < end or token.text in NO_STATEMENT and all_tokens[index + 1].text != ";":
            continue
        if before.text == "{" and all_tokens[index - 1].partner >= 0 and end > all_tokens[index - 1].partner:
            continue
        text = source[token.start:all_tokens[end].end]
        if token.text != "throw" and (DECLARES.match(text) or any(
                all_tokens[k].text in SILENT for k in range(index, end) if all_tokens[k].kind == "word")):
            continue
        found.append(Mutant("statement", token.start, all_tokens[end].end, ";"))
    return found


def _controls(all_tokens, closing):
    opening = all_tokens[closing].partner
    return opening > 0 and all_tokens[opening - 1].text in ("if", "for", "while", "constexpr")


def _swapped_arguments(source, all_tokens, places):
    found, allowed = [], set(places)
    for index in places:
        token = all_tokens[index]
        if token.text != "(" or token.partner < 0 or token.scope != CODE:
            continue
        before = all_tokens[index - 1]
        if before.kind != "word" or before.text in NOT_CALLS | SYMMETRIC | SILENT:
            continue
        starts, at = [index + 1], index + 1
        while (at := _find(all_tokens, ",", at, token.partner)) >= 0:
            starts.append(at + 1)
            at += 1
        starts.append(token.partner + 1)
        for first, second, third in zip(starts, starts[1:], starts[2:]):
            if not {first, second} <= allowed:
                continue
            a = source[all_tokens[first].start:all_tokens[second - 2].end]
            b = source[all_tokens[second].start:all_tokens[third - 2].end]
            middle = source[all_tokens[second - 2].end:all_tokens[second].start]
            if a != b:
                found.append(Mutant("arguments", all_tokens[first].start, all_tokens[third - 2].end, b + middle + a))
    return found
