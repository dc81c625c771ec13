"""A reward for random models: the share of vowels, so that completions differ and gradients are not zero."""


def letters(completions, **kwargs):
    texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
    return [sum(t.count(x) for x in "aeiou") / max(len(t), 1) for t in texts]
