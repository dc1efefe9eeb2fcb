"""Parts of the sentences that say why weights do not fit."""


def listed(names: list[str], noun: str, most: int = 3) -> str:
    """A count and the first few names: "5 tensors (a, b, c and 2 more)"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)} {noun}{'s' * (len(names) != 1)} ({', '.join(names[:most])}{more})"


def first_line(error: Exception, most: int = 120) -> str:
    """What an error of another package says, in so few letters that it fits into a sentence."""
    lines = str(error).strip().splitlines()
    line = lines[0].rstrip(".") if lines else type(error).__name__
    return line if len(line) <= most else f"{line[:most]}..."
