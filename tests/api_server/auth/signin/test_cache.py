"""What was found out about sessions just now."""

from __future__ import annotations

from api_server.auth.signin.cache import RecentlyKnown


def test_a_value_is_as_old_as_the_question() -> None:
    known: RecentlyKnown[str] = RecentlyKnown(lifetime=0.5, limit=10)
    known.put("a", "value", asked_at=100.0, generation=known.generation)
    assert known.get("a", 100.49) == "value"
    assert known.get("a", 100.5) is None
    assert known.get("b", 100.0) is None


def test_an_answer_that_comes_after_something_ended_is_not_kept() -> None:
    known: RecentlyKnown[str] = RecentlyKnown(lifetime=0.5, limit=10)
    generation = known.generation
    known.forget()
    known.put("a", "from before", asked_at=100.0, generation=generation)
    assert known.get("a", 100.0) is None
    known.put("a", "from after", asked_at=100.0, generation=known.generation)
    assert known.get("a", 100.0) == "from after"
    known.forget()
    assert known.get("a", 100.0) is None


def test_the_size_is_bounded() -> None:
    known: RecentlyKnown[int] = RecentlyKnown(lifetime=0.5, limit=3)
    for number in range(10):
        known.put(str(number), number, asked_at=100.0, generation=known.generation)
    assert len(known) == 3
    assert [known.get(str(number), 100.0) for number in (6, 7, 9)] == [None, 7, 9]
