"""What the text of a class is."""

PROMPT = "{prompt}"


def text_of(prompt: str, phrase: str) -> str:
    """The phrase with the prompt in its place, or else the prompt and the phrase after a comma.

    | prompt     | phrase            | text                   |
    |------------|-------------------|------------------------|
    | a red bear | front view        | a red bear, front view |
    | nurse      | a female {prompt} | a female nurse         |
    """
    return phrase.replace(PROMPT, prompt) if PROMPT in phrase else f"{prompt}, {phrase}"


def check_phrase(name: str, phrase: str) -> None:
    """A phrase says something, and has no braces but {prompt}; else a ValueError."""
    if not phrase.strip():
        raise ValueError(f"class '{name}' has an empty phrase. For the prompt alone say {PROMPT}.")
    rest = phrase.replace(PROMPT, "")
    if "{" in rest or "}" in rest:
        raise ValueError(
            f"the phrase '{phrase}' of class '{name}' has braces around something else than "
            f"prompt. Write {PROMPT} where the prompt stands, and no other braces."
        )
