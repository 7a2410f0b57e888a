"""What a text must match: the pattern or schema that a request gives, or the one in force."""

from asyncio import to_thread

from serving.constraints.automata import Automata
from serving.constraints.automaton import FREE, Automaton, Constraint
from serving.engine.sequences.snapshot import PatternPlace
from serving.texts.origins import Origin
from serving.texts.parse.generate import parse_sampling
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import InputError
from unroll.options import GenerateOptions


async def constrain(
    options: GenerateOptions, origin: Origin, automata: Automata, account: str = ""
) -> Constraint:
    """Find what a text must match.

    Args:
        options: of the request.
        origin: what it goes on from.
        automata: compiles patterns.
        account: of the caller.

    Raises:
        InputError: the pattern or schema is wrong, too large, or has no match in the vocabulary.
        OverloadedError: the caller has too many patterns compiled.
    """
    vocabulary = origin.model.bundle.vocabulary
    state = 0
    if options.pattern or options.json_schema:
        _check_new(options, origin)
        if options.pattern:
            automaton = await automata.of_pattern(options.pattern, vocabulary, account)
        else:
            automaton = await automata.of_schema(options.json_schema, vocabulary, account)
    elif options.pattern is None and origin.pattern is not None:
        automaton = await _in_force(origin.pattern, vocabulary, automata, account)
        state = origin.pattern.state
    else:
        return FREE
    sampling = parse_sampling(options, origin)
    if sampling.banned:
        automaton = await to_thread(automaton.without, sampling.banned)
        if not automaton.leads_on(state):
            raise InputError(
                "sampling.logit_bias", "bans symbols without which the pattern has no match"
            )
    return Constraint(automaton=automaton, state=state)


def _check_new(options: GenerateOptions, origin: Origin) -> None:
    field = "pattern" if options.pattern else "json_schema"
    if options.pattern and options.json_schema:
        raise InputError(
            "json_schema", "cannot be given together with a pattern; leave one of them out"
        )
    origin.model.engine.check_full(field)
    if origin.snapshot is not None and len(origin.snapshot.held):
        raise InputError(
            field,
            f"cannot begin here: {len(origin.snapshot.held)} symbols were generated earlier and "
            "not yet delivered; first send a request without it",
        )


async def _in_force(
    place: PatternPlace, vocabulary: Vocabulary, automata: Automata, account: str
) -> Automaton:
    automaton = await automata.again(place.pattern, vocabulary, account)
    if automaton.digest != place.digest or place.state >= len(automaton):
        raise InputError(
            "pattern",
            "is in force from an earlier request, and this version of the server compiles it "
            "otherwise; give it again, or an empty one",
        )
    return automaton
