"""What the native loop is handed, as loop.h declares it."""

from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from enum import IntEnum

CELLS = ("rnn_tanh", "rnn_relu", "gru", "lstm")  # in the header's order


class Outcome(IntEnum):
    """What the loop returns."""

    DONE = 0
    OUT_OF_MEMORY = 1
    NO_SUCH_CELL = 2
    NO_SUCH_SYMBOL = 3
    NO_SUCH_STATE = 4


class Layer(Structure):
    """One layer's weights."""

    _fields_ = (
        ("x_panels", c_void_p),
        ("h_panels", c_void_p),
        ("table", c_void_p),
        ("bias", c_void_p),
        ("scale", c_void_p),
        ("step", c_float),
        ("zero_point", c_int32),
    )


class Model(Structure):
    """All weights and sizes."""

    _fields_ = (
        ("each", POINTER(Layer)),
        ("decoder_panels", POINTER(c_void_p)),
        ("decoder_bias", c_void_p),
        ("decoder_scale", c_void_p),
        ("cell", c_int32),
        ("is_int8", c_int32),
        ("layers", c_int32),
        ("members", c_int32),
        ("hidden", c_int32),
        ("width", c_int32),
        ("inputs", c_int32),
        ("symbols", c_int32),
        ("symbols_width", c_int32),
        ("sampled", c_int32),
    )


class Run(Structure):
    """One loop run, and where its results go."""

    _fields_ = (
        ("steps", c_int32),
        ("rows", c_int32),
        ("tokens", c_void_p),
        ("forced", c_void_p),
        ("uniform", c_void_p),
        ("row_steps", c_void_p),
        ("temperature", c_void_p),
        ("top_k", c_void_p),
        ("top_p", c_void_p),
        ("min_p", c_void_p),
        ("h", c_void_p),
        ("c", c_void_p),
        ("tokens_out", c_void_p),
        ("log_probs", c_void_p),
        ("h_after", c_void_p),
        ("c_after", c_void_p),
        ("states", c_int64),
        ("bias", c_void_p),
        ("next", c_void_p),
        ("automaton", c_void_p),
        ("automata_out", c_void_p),
        ("asking", c_int32),
        ("alternatives", c_int32),
        ("asking_rows", c_void_p),
        ("alternative_ids", c_void_p),
        ("alternative_log_probs", c_void_p),
    )
