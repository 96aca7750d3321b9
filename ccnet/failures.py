"""Errors in one line. In Jittor's own, the cause stands last, behind hundreds of characters about the operator."""

import re

from ccnet import InputError

LONGEST = 300  # characters of a cause; of a failed compilation it is the whole command
MARK = re.compile(r"\[?(?:failed )?reason\]?:", re.IGNORECASE)
COLOUR = re.compile(r"\x1b\[[\d;]*m")
PLACE = re.compile(r"^\[\w \d{4} [\d:.]+ \d+ \S+\] ")  # level, date, time, thread and line of Jittor's source
ADVICE = re.compile(r"\*{10}\s+Async error was detected.*", re.DOTALL)
# Jittor's allocators and its memory report; CUDA, cuBLAS and cuDNN; NumPy. A compilation that failed without a word
# "might be … out of memory" to Jittor: that is none of them.
MEMORY = re.compile(r"unable to alloc|memory is overflow|cudaErrorMemoryAllocation|STATUS_ALLOC_FAILED", re.IGNORECASE)

# what needs less memory, by command
SMALLER = {
    "train": "lower batch_size (accumulate makes up for it) or crop_size",
    "evaluate": "let a --window slide over the images, or make it smaller",
    "segment": "scale the images down",
}


def cause(error: Exception) -> str:
    """The innermost reason that an error names, else its whole text; its type where it has none."""
    text = ADVICE.sub("", COLOUR.sub("", str(error)))
    line = PLACE.sub("", " ".join(MARK.split(text)[-1].split()))
    if len(line) > LONGEST:
        line = f"{line[:LONGEST]} …"
    return line or type(error).__name__


def explain(error: Exception, smaller: str) -> str:
    """A line on what went wrong; out of memory, it is `smaller` that helps, such as "lower crop_size"."""
    if isinstance(error, MemoryError | RuntimeError):
        return f"out of memory ({cause(error)}): {smaller}" if out_of_memory(error) else cause(error)
    return " ".join(str(error).split()) or type(error).__name__


def out_of_memory(error: Exception) -> bool:
    """Whether the device, or the computer, had no memory left."""
    return isinstance(error, MemoryError) or bool(MEMORY.search(str(error)))


def explain_command(command: str, error: Exception) -> str:
    """What `ccnet COMMAND` says of an error: a line, or one for each bad file."""
    if isinstance(error, InputError):
        return str(error)
    text = explain(error, SMALLER.get(command, "end what else needs memory"))
    if out_of_memory(error):
        return text
    if isinstance(error, OSError):
        return f"{text}; check the path, its permissions and the free space"
    return f"{type(error).__name__}: {text}; this is a fault of ccnet: please report it with the output of --debug"
