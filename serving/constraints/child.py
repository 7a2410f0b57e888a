"""The process that compiles one pattern: it may be killed, and it may not grow.

In: a request in JSON on standard input. Out: a line of JSON, then the tables; see `answer`. It is
started with no other module of ours than this room's, and none that takes long to import.
"""

import json
import os
import sys
from array import array
from typing import Any

from serving.constraints.construction import construct
from serving.constraints.positions import PatternError

NICENESS = 10  # the texts that are being written come first
# Keywords of JSON Schema: what outlines-core does not heed, what holds schemas by name, and values.
PASSED_OVER = {
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "uniqueItems",
    "contains", "minContains", "maxContains", "not", "allOf", "if", "then", "else",
    "patternProperties", "propertyNames", "dependentRequired", "dependentSchemas", "dependencies",
}  # fmt: skip
BESIDE = {"pattern": {"minLength", "maxLength"}, "properties": {"minProperties", "maxProperties"}}
NAMED = {"properties", "$defs", "definitions"}
VALUES = {"enum", "const", "default", "examples"}


def main() -> None:
    """Compile what standard input asks for."""
    request = json.load(sys.stdin)
    _limit(request["memory"], request["seconds"])
    try:
        head, *tables = answer(request)
    except PatternError as error:
        head, tables = {"problem": str(error)}, []
    except MemoryError:
        head, tables = {"problem": "takes too much memory to compile; make it simpler"}, []
    out = sys.stdout.buffer
    out.write(json.dumps(head).encode() + b"\n")
    for table in tables:
        out.write(table)


def answer(request: dict[str, Any]) -> tuple[Any, ...]:
    """Compile a pattern.

    Returns:
        `pattern`, `states` and `classes`; the class of each symbol, int16; the next state by class,
        of each state, int16; whether each state is a whole match, bytes.
    """
    pattern = request["pattern"]
    if request["schema"]:
        pattern = _pattern_of(request["schema"])
        most = request["longest"]
        if (length := len(pattern.encode())) > most:
            raise PatternError(f"becomes a pattern of {length} bytes; at most {most} are taken")
    made = construct(pattern, request["symbols"], request["end"])
    return (
        {"pattern": pattern, "states": len(made.rows), "classes": len(made.rows[0])},
        array("h", made.class_of),
        array("h", [to for row in made.rows for to in row]),
        bytes(made.accepting),
    )


def _pattern_of(schema: str) -> str:
    """Translate a schema; digits are those of ASCII, as in JSON.

    Raises:
        PatternError: that is not possible.
    """
    from outlines_core import json_schema

    try:
        _check_keywords(json.loads(schema))
        pattern: str = json_schema.build_regex_from_schema(schema)
    except PatternError:
        raise
    except (Exception, RecursionError) as error:  # it raises ValueError, TypeError and its own
        line = str(error).strip().partition("\n")[0]
        raise PatternError(f"cannot be turned into a pattern: {line}") from error
    return "(?a)" + pattern


def _check_keywords(schema: Any) -> None:
    """Refuse what the translation would pass over in silence.

    Raises:
        PatternError: there is such a keyword.
    """
    if isinstance(schema, list):
        for each in schema:
            _check_keywords(each)
    if not isinstance(schema, dict):
        return
    for name, others in BESIDE.items():
        if name in schema and (found := others & set(schema)):
            raise PatternError(f"has {name!r} beside {min(found)!r}; leave one of them out")
    for name, value in schema.items():
        if name in PASSED_OVER:
            raise PatternError(f"has {name!r}, which a pattern cannot hold; leave it out")
        if name in NAMED and isinstance(value, dict):
            for each in value.values():
                _check_keywords(each)
        elif name not in VALUES:
            _check_keywords(value)


def _limit(memory: int, seconds: float) -> None:
    """Bound the process's memory in bytes and processor time in seconds, where the system can."""
    if sys.platform == "win32":
        return
    import resource
    import signal

    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    main()
