"""A conversation's tokens as pieces: the same as one list, and no copies."""

from hypothesis import given
from hypothesis import strategies as st

from fastswitch.engine.history import TokenHistory

PIECES = st.lists(st.lists(st.integers(0, 99), max_size=6), max_size=6)


@given(pieces=PIECES, start=st.integers(0, 40), length=st.integers(0, 40))
def test_a_span_is_the_same_as_of_one_list(pieces, start, length):
    history, tokens = TokenHistory(), []
    for piece in pieces:
        history.add(piece)
        tokens += piece
    assert len(history) == len(tokens)
    assert history.span(start, start + length) == tokens[start : start + length]


def test_the_last_piece_grows():
    history, answer = TokenHistory(), []
    history.add((1, 2))
    history.add(answer)
    assert history.span(0, 9) == [1, 2]
    answer += [3, 4]
    assert (len(history), history.span(1, 3), history.span(3, 4)) == (4, [2, 3], [4])
    history.add(range(5, 8))
    assert history.span(0, 9) == [1, 2, 3, 4, 5, 6, 7]


def test_what_comes_out_may_be_changed():
    answer = [1]
    history = TokenHistory()
    history.add(answer)
    history.span(0, 1).append(2)
    assert answer == [1]
