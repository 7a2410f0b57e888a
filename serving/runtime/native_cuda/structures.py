"""What the native loop on CUDA is handed, as loop.h declares it."""

from ctypes import Structure, c_int32, c_void_p

CELLS = ("rnn_tanh", "rnn_relu", "gru", "lstm")  # in the header's order
HEAD = ("slots", "tokens", "steps", "temperature", "top_k", "top_p", "min_p")  # likewise


class Description(Structure):
    """Sizes and weights of a model."""

    _fields_ = (
        ("cell", c_int32),
        ("is_half", c_int32),
        ("members", c_int32),
        ("depth", c_int32),
        ("hidden", c_int32),
        ("symbols", c_int32),
        ("sampled", c_int32),
        ("recurrent", c_void_p),
        ("input", c_void_p),
        ("table", c_void_p),
        ("bias", c_void_p),
        ("decoder", c_void_p),
        ("decoder_bias", c_void_p),
    )


class Places(Structure):
    """Where the host writes what a window takes and reads what it gave."""

    _fields_ = (("input", c_void_p), ("output", c_void_p))
