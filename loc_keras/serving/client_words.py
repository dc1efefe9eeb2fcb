"""What servers say, cut to fit into one sentence."""

LONGEST = 300


def one_line(said: object) -> str:
    """A message on one line, without its last full stop, of at most `LONGEST` characters."""
    text = " ".join(str(said).split()).rstrip(".")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
