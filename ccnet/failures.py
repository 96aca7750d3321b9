"""One-line error messages. Jittor's errors state the cause last, after hundreds of characters about the operator."""

import re

from ccnet import InputError

LONGEST = 300  # characters of a cause; for a failed compilation the cause is the whole compiler command
MARK = re.compile(r"\[?(?:failed )?reason\]?:", re.IGNORECASE)
COLOUR = re.compile(r"\x1b\[[\d;]*m")
PLACE = re.compile(r"^\[\w \d{4} [\d:.]+ \d+ \S+\] ")  # level, date, time, thread and source line in Jittor
ADVICE = re.compile(r"\*{10}\s+Async error was detected.*", re.DOTALL)
# Messages of Jittor's allocators and its memory report; CUDA, cuBLAS and cuDNN; NumPy. Jittor also reports that a
# compilation which failed without output "might be … out of memory": that must not match.
MEMORY = re.compile(r"unable to alloc|memory is overflow|cudaErrorMemoryAllocation|STATUS_ALLOC_FAILED", re.IGNORECASE)

# The remedy for running out of memory, by command
SMALLER = {
    "train": "lower batch_size (accumulate makes up for it) or crop_size",
    "evaluate": "let a --window slide over the images, or make it smaller",
    "segment": "scale the images down",
    "attend": "scale the image down",
}


def cause(error: Exception) -> str:
    """The innermost reason in an error's message, else the whole message; the type's name if it is empty."""
    text = ADVICE.sub("", COLOUR.sub("", str(error)))
    line = PLACE.sub("", " ".join(MARK.split(text)[-1].split()))
    if len(line) > LONGEST:
        line = f"{line[:LONGEST]} …"
    return line or type(error).__name__


def explain(error: Exception, smaller: str) -> str:
    """One line on the error; `smaller` is the remedy for running out of memory, such as "lower crop_size"."""
    if isinstance(error, MemoryError | RuntimeError):
        return f"out of memory ({cause(error)}): {smaller}" if out_of_memory(error) else cause(error)
    return " ".join(str(error).split()) or type(error).__name__


def out_of_memory(error: Exception) -> bool:
    """Whether the device or the host ran out of memory."""
    return isinstance(error, MemoryError) or bool(MEMORY.search(str(error)))


def explain_command(command: str, error: Exception) -> str:
    """The error message of `ccnet COMMAND`: one line, or one for each bad file."""
    if isinstance(error, InputError):
        return str(error)
    text = explain(error, SMALLER.get(command, "end what else needs memory"))
    if out_of_memory(error):
        return text
    if isinstance(error, OSError):
        return f"{text}; check the path, its permissions and the free space"
    return f"{type(error).__name__}: {text}; this is a fault of ccnet: please report it with the output of --debug"
