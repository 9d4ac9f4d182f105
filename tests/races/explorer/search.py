"""Searches every schedule of some programs: depth first, by a replay with the last choice changed.

A bound limits the number of preemptions; `is_cut` says whether it left schedules out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tests.races.explorer.schedules import Choice, NotReplayableError, Run


class Search:
    """Plays each schedule once, the default schedule first; `play` runs the schedule of a token.

    Raises NotReplayableError when the same choices lead to another point than before. `is_cut`: the bound left schedules out.
    """

    def __init__(self, play: Callable[[str], Run], bound: int | None = None) -> None:
        self.is_cut = False
        self._play = play
        self._bound = bound

    def __iter__(self) -> Iterator[Run]:
        token: str | None = ""
        before: Sequence[Choice] = ()
        while token is not None:
            run = self._play(token)
            _demand_same(before, run.choices, len(token))
            yield run
            before = run.choices
            token = self._next(run.choices)

    def _next(self, choices: Sequence[Choice]) -> str | None:
        """Change the deepest choice that has another option within the bound."""
        spent = [0]
        for choice in choices:
            spent.append(spent[-1] + choice.cost(choice.taken))
        for number in range(len(choices) - 1, -1, -1):
            choice = choices[number]
            for option in choice.options[choice.options.index(choice.taken) + 1 :]:
                if self._bound is None or spent[number] + choice.cost(option) <= self._bound:
                    return "".join(earlier.taken for earlier in choices[:number]) + option
                self.is_cut = True
        return None


def _demand_same(before: Sequence[Choice], choices: Sequence[Choice], shared: int) -> None:
    for number, (then, now) in enumerate(zip(before[:shared], choices[:shared], strict=False)):
        if (then.options, then.labels) != (now.options, now.labels):
            raise NotReplayableError(f"choice {number + 1} was {_in_words(then)}, now it is {_in_words(now)}")


def _in_words(choice: Choice) -> str:
    return " or ".join(
        f"{name} before {' '.join(label.split())[:60]}" for name, label in zip(choice.options, choice.labels, strict=True)
    )
