"""The tree of errors."""

from unroll import errors


def test_drawn_tree_of_errors_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        mark, name = line.rpartition("-- ")[::2] if "-- " in line else ("", line)
        word = name.split(" ")[0]
        if not word.endswith("Error"):
            continue
        depth = 0 if not mark else len(mark) // 4 + 1
        above[depth:] = [word]
        drawn[word] = above[depth - 1] if depth else "Exception"
    assert drawn == {
        kind.__name__: kind.__base__.__name__
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.UnrollError) and kind.__base__
    }
