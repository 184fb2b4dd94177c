"""What a person sees in the terminal while the server works."""

import sys

MARK = "[safa] "


class Report:
    """Lines, and one line of progress that is drawn over itself in a terminal and printed now and then elsewhere."""

    def __init__(self, stream=None):
        self.stream = stream or sys.stdout
        self.moving = self.stream.isatty()
        self.width, self.shown = 0, None

    def say(self, text: str) -> None:
        self._end_line()
        print(MARK + text, file=self.stream, flush=True)

    def progress(self, what: str, value: int, most: int) -> None:
        """`value` of `most`, each a whole number."""
        text = f"{MARK}{what} {value} of {most}"
        if self.moving:
            print("\r" + text.ljust(self.width), end="", file=self.stream, flush=True)
            self.width, self.shown = len(text), None
            return
        tenth = (what, 10 * value // max(1, most))
        if tenth != self.shown:
            print(text, file=self.stream, flush=True)
            self.shown = tenth

    def _end_line(self) -> None:
        if self.width:
            print(file=self.stream)
            self.width = 0
