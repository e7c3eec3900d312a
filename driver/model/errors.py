"""Every error of the driver. The type says what the caller shall do; the text is one sentence for a person.

    DriverError
    ├── InvalidInput     the input is wrong: tell its author, never retry
    │   ├── Rejected     the API server refuses the content of a request (HTTP 400, 415, 422 and their like)
    │   └── Faulty       one document with several faults, all of them told at once
    ├── Unavailable      something outside is away for now: retry later
    ├── Conflict         someone else was faster: read again, decide again
    ├── NotFound         the object does not exist (any more)
    ├── Gone             the API server has forgotten this resourceVersion: list again
    ├── Forbidden        we lack a permission: tell the admin, retrying does not help by itself
    ├── Unsupported      this hardware, driver or server cannot do it: go on without
    ├── DeviceBusy       another claim holds the device: refuse, name the holder
    │   └── StepContested  another claim has set the device up in another way
    ├── Corrupt          a file of ours cannot be read: set it aside, go on
    ├── StorageFailed    the node's disk does not take what we must write: undo, tell the admin
    └── StepFailed       the hardware refused a step: undo, report
        └── StepRefused  the same before anything was done: there is nothing of this step to undo

Foreign errors (urllib3, NVML, grpc, OSError) are mapped to these where they arise, with `from`.
"""

from __future__ import annotations


class DriverError(Exception):
    """Base of everything the driver raises on purpose."""


class InvalidInput(DriverError):  # noqa: N818 - the names are the driver's vocabulary, see the tree above
    """A flag, file, claim, configuration or reply is wrong: names the field, the value and what is allowed."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field = field
        self.value = value
        self.allowed = allowed
        super().__init__(f"{field}: {value!r} is not allowed; allowed: {allowed}")


class Rejected(InvalidInput):
    """The API server refuses what a request carries. The text is the server's own message."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(field, None, "what the API server accepts")
        self.args = (message,)


class Faulty(InvalidInput):
    """A document in which more than one thing is wrong. The text is that of all faults, one after the other."""

    def __init__(self, faults: tuple[InvalidInput, ...]) -> None:
        """`faults`: at least one, in the order of the document."""
        self.faults = faults
        first = faults[0]
        super().__init__(first.field, first.value, first.allowed)
        self.args = ("; ".join(str(fault) for fault in faults),)


class Unavailable(DriverError):  # noqa: N818
    """Something outside (API server, NVML, kubelet) does not answer now; `retry_after` seconds if it said so."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class Conflict(DriverError):  # noqa: N818
    """The object changed since it was read (HTTP 409), or a precondition (uid, resourceVersion) failed."""


class NotFound(DriverError):  # noqa: N818
    """The object does not exist (HTTP 404). `name` is set only if the server itself said so of an object."""

    def __init__(self, message: str, *, name: str = "") -> None:
        self.name = name
        super().__init__(message)


class Gone(DriverError):  # noqa: N818
    """The resourceVersion or list token is too old (HTTP 410, reason Expired)."""


class Forbidden(DriverError):  # noqa: N818
    """The API server knows us and refuses (HTTP 401, 403): a role or binding is missing."""


class Unsupported(DriverError):  # noqa: N818
    """The hardware, its driver or the server has no such feature. Never a failure of the device."""


class DeviceBusy(DriverError):  # noqa: N818
    """Another claim holds the device. `holder` is `namespace/name` of that claim, with its UID."""

    def __init__(self, device: str, holder: str, why: str = "it is not shared") -> None:
        self.device = device
        self.holder = holder
        super().__init__(f"device {device} is already prepared for claim {holder}; {why}")


class StepContested(DeviceBusy):
    """Another claim shares a change of hardware with this one and needs it in another way; `holder` as there."""

    def __init__(self, step: str, wants: str, has: str, holder: str) -> None:
        super().__init__(step, holder)
        self.args = (f"step {step}: this claim wants {wants}, but claim {holder}, which shares the device, has {has}",)


class Corrupt(DriverError):  # noqa: N818
    """A file the driver wrote itself cannot be understood."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"{path}: {why}")


class StorageFailed(DriverError):  # noqa: N818
    """The node's disk refuses (full, read-only, no permission, errors): names the path and the disk's own words."""

    def __init__(self, path: str, why: str, *, action: str = "write") -> None:
        self.path = path
        self.why = why
        super().__init__(f"cannot {action} {path}: {why}")


class StepFailed(DriverError):  # noqa: N818
    """A step that changes hardware was refused or did not take effect."""

    def __init__(self, step: str, why: str) -> None:
        self.step = step
        super().__init__(f"step {step}: {why}")


class StepRefused(StepFailed):
    """A step found that it must not be done, and has changed nothing: it is not undone, the earlier ones are."""
