"""The types that the fields of job.yaml are made of: names, quantities, durations, ports, environment names.

A type is a pattern with a limit, or a small check. Checks raise `fault(...)`, which carries the rule and the remedy;
`problems.py` adds the place. Types are strict: `"2"` and `true` are no numbers, because kubectl and the API server
would not take them for numbers either. Foreign patterns name their source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from k8sddp.worker.contract import node_env

# https://kubernetes.io/docs/concepts/overview/working-with-objects/names (RFC 1035 label, RFC 1123 label, subdomain)
NAME_PATTERN: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
LABEL_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SUBDOMAIN_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
# apimachinery pkg/util/validation: qualified names (keys of labels, resources) and label values
_PART = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PREFIX = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/"
KEY_PATTERN: Final = rf"^({_PREFIX})?{_PART}$"
RESOURCE_PATTERN: Final = rf"^{_PREFIX}{_PART}$"
VALUE_PATTERN: Final = rf"^({_PART})?$"
WORD_PATTERN: Final = r"^\S+$"
ABSOLUTE_PATTERN: Final = r"^/[^:]*$"  # the API server refuses a colon in mountPath

# What a pattern means, as the sentence that a user reads.
PATTERN_RULES: Final[Mapping[str, str]] = {
    NAME_PATTERN: "must be lower-case letters, digits and `-`, begin with a letter and not end with `-`",
    LABEL_PATTERN: "must be lower-case letters, digits and `-`, and not begin or end with `-`",
    SUBDOMAIN_PATTERN: "must be lower-case letters, digits, `-` and `.`, and begin and end with a letter or digit",
    KEY_PATTERN: "must be letters, digits, `-`, `_` and `.`, at most 63, with at most one lower-case `prefix/`",
    RESOURCE_PATTERN: "must be a resource's full name such as nvidia.com/gpu",
    VALUE_PATTERN: "must be letters, digits, `-`, `_` and `.`, at most 63, and begin and end with a letter or digit",
    WORD_PATTERN: "must not contain spaces",
    ABSOLUTE_PATTERN: "must be an absolute path without `:`",
}

# apimachinery pkg/api/resource: <number><suffix>, without the sign: a negative amount is never right here
_QUANTITY = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(?:([KMGTPE]i|[numkMGTPE]?)|[eE]([+-]?[0-9]{1,2}))")
_SUFFIXES: Final[Mapping[str, Decimal]] = {
    **{suffix: Decimal(10) ** power for suffix, power in zip("num", (-9, -6, -3), strict=True)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{suffix + "i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
    "": Decimal(1),
}
_DURATION = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?")
_MAX_SECONDS = 2**31 - 1
_NO_TIME: Final = ("0", "0s", "0m", "0h", "off", "none", "never", "no", "false")  # how people write "not at all"
MAX_EXIT_CODE: Final = 255  # wait(2)


class Part(BaseModel):
    """A part of job.yaml: frozen, camelCase outside, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


def fault(rule: str, hint: str = "") -> PydanticCustomError:
    """Return the error a check raises: the rule that is broken, and the remedy."""
    # Braces would be taken for placeholders, so both texts travel as context.
    return PydanticCustomError("k8sddp", "{rule}", {"rule": rule, "hint": hint})


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise fault(f"`{path}` must be a relative path without `..`")
    return path


def exactly_one(*names: str) -> Callable[[Any], Any]:
    """Return the check that a mapping holds exactly one of the fields `names`."""
    listed = ", ".join(names[:-1]) + f" or {names[-1]}"

    def check(value: Any) -> Any:
        given = [name for name in names if name in value]
        if len(given) != 1:
            raise fault(f"exactly one of {listed} is needed, not {' and '.join(given) or 'none'}")
        return value

    return check


def quantity_value(text: str) -> Decimal | None:
    """Return the value of a Kubernetes quantity such as `500m` or `64Gi`, None where it is none."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    number, suffix, exponent = match.groups()
    scale = Decimal(10) ** int(exponent) if exponent else _SUFFIXES[suffix or ""]
    return Decimal(number) * scale


def _quantity_text(value: object) -> object:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return format(Decimal(repr(value)), "f")
    return value


def _quantity(text: str) -> str:
    if quantity_value(text) is None:
        guess = re.fullmatch(r"([0-9.]+) *([kKmMgGtTpP])(?:i?[bB])?", text)
        hint = f"write {guess[1]}{guess[2].upper()}i" if guess else "write 500m, 32, 64Gi, ..."
        raise fault(f"`{text}` is not a Kubernetes quantity", hint)
    return text


def _bytes(text: str) -> str:
    value = quantity_value(text)
    if value is not None and value < 1:
        raise fault(f"`{text}` is less than one byte", f"write {text.rstrip('num')}Mi" if value else "write 64Gi, ...")
    return text


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None or not value:
        raise fault(f"`{value}` is not a duration", "write 90s, 10m, 1h30m, or a whole number of seconds")
    hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def _hang_timeout(value: object) -> object:
    if value == 0 or (isinstance(value, str) and value.strip().lower() in _NO_TIME):
        raise fault(f"`{value}` would call every wait a hang", "write onHang: report, which ends nothing")
    return value


def _env_name(name: str) -> str:
    # printable ASCII except `=` since Kubernetes 1.32 (KEP-4369)
    if not name or not all(" " <= char <= "~" and char != "=" for char in name):
        raise fault(f"`{name}` is not an environment name", "use printable ASCII characters without `=`")
    reason = node_env.reserved_reason(name)
    if reason:
        raise fault(f"`{name}` is reserved: {reason}", "remove it, or choose another name")
    return name


def _nnodes(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[0-9]+:[0-9]+", value):
        raise fault("elastic jobs are not supported yet", "write one number of nodes")
    return value


def _exit_code(value: int) -> int:
    if not 1 <= value <= MAX_EXIT_CODE:
        hint = f"write {128 - value}" if -64 <= value < 0 else ""
        raise fault(f"`{value}` is not an exit code: 1 to {MAX_EXIT_CODE}, a signal n as 128 + n", hint)
    return value


def _off_is_skip(value: object) -> object:
    return node_env.SKIP if value == "off" else value


Int = Annotated[int, Field(strict=True)]
Int32 = Annotated[int, Field(strict=True, ge=-(2**31), le=2**31 - 1)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(min_length=1)]
Word = Annotated[str, Field(min_length=1, pattern=WORD_PATTERN)]
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=NAME_PATTERN)]
DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN)]
DnsSubdomain = Annotated[str, Field(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN)]
QualifiedKey = Annotated[str, Field(min_length=1, max_length=317, pattern=KEY_PATTERN)]
ResourceName = Annotated[str, Field(min_length=1, max_length=317, pattern=RESOURCE_PATTERN)]
LabelValue = Annotated[str, Field(max_length=63, pattern=VALUE_PATTERN)]
AbsolutePath = Annotated[str, Field(min_length=1, pattern=ABSOLUTE_PATTERN)]
RelativePath = Annotated[str, Field(min_length=1), AfterValidator(_inside)]
EnvName = Annotated[str, AfterValidator(_env_name)]
_AMOUNT: Final[dict[str, Any]] = {"anyOf": [{"type": "string"}, {"type": "number", "minimum": 0}]}
Quantity = Annotated[str, BeforeValidator(_quantity_text), AfterValidator(_quantity), WithJsonSchema(_AMOUNT)]
Bytes = Annotated[
    str, BeforeValidator(_quantity_text), AfterValidator(_quantity), AfterValidator(_bytes), WithJsonSchema(_AMOUNT)
]
_DURATION_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"}]
}
Seconds = Annotated[
    int, Field(strict=True, ge=1, le=_MAX_SECONDS), BeforeValidator(_seconds), WithJsonSchema(_DURATION_SCHEMA)
]
HangTimeout = Annotated[Seconds, BeforeValidator(_hang_timeout)]
Nodes = Annotated[int, Field(strict=True, ge=1, le=4096), BeforeValidator(_nnodes)]
ExitCode = Annotated[
    int,
    Field(strict=True),
    AfterValidator(_exit_code),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_EXIT_CODE}),
]
# An empty list could mean none or all, so it is refused; the default stands for a field that is left out.
ExitCodes = Annotated[tuple[ExitCode, ...], Field(min_length=1)]
# `off` unquoted is false to kubectl, and the loader refuses it with the quoted form; so the word to write is another,
# and who quotes it is understood.
Preflight = Annotated[
    Literal["fail", "warn", "skip"],
    BeforeValidator(_off_is_skip),
    WithJsonSchema({"enum": ["fail", "warn", "skip", "off"], "type": "string"}),
]
