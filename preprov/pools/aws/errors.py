"""What AWS's error codes mean to us: one table, used around every call."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from preprov.model.errors import (
    ConflictError,
    InsufficientCapacityError,
    NotAuthorisedError,
    NotFoundError,
    PoolError,
    QuotaExceededError,
    ThrottledError,
)

_SHORT: Final = "another type, zone or time may do"
_QUOTA: Final = "raise the quota in Service Quotas, or lower max_nodes"
_BUSY: Final = "the next pass tries again"
_RIGHTS: Final = "`preprov doctor` prints the policy that is needed"
_LOGIN: Final = "renew the credentials (`aws sso login`, or the role of this machine)"
_AGAIN: Final = "observe again"

_CODES: Final[Mapping[type[PoolError], tuple[str, tuple[str, ...]]]] = {
    InsufficientCapacityError: (
        _SHORT,
        (
            "InsufficientInstanceCapacity",
            "InsufficientHostCapacity",
            "InsufficientReservedInstanceCapacity",
            "InsufficientCapacity",
            "ReservationCapacityExceeded",
            "UnfulfillableCapacity",
            "SpotMaxPriceTooLow",
            "Unsupported",
        ),
    ),
    QuotaExceededError: (
        _QUOTA,
        (
            "VcpuLimitExceeded",
            "InstanceLimitExceeded",
            "MaxSpotInstanceCountExceeded",
            "InsufficientFreeAddressesInSubnet",
            "InsufficientAddressCapacity",
            "VolumeLimitExceeded",
            "VolumeModificationSizeLimitExceeded",
            "AttachmentLimitExceeded",
            "MaxIOPSLimitExceeded",
            "LimitExceeded",
            "ResourceLimitExceeded",
            "TagLimitExceeded",
        ),
    ),
    ThrottledError: (
        _BUSY,
        (
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "RequestThrottled",
            "RequestThrottledException",
            "TooManyRequestsException",
            "EC2ThrottledException",
            "SlowDown",
            "ServiceUnavailable",
            "Unavailable",
            "VolumeModificationRateExceeded",
            "InternalError",
            "InternalFailure",
        ),
    ),
    NotAuthorisedError: (
        _RIGHTS,
        ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthFailure", "Blocked", "OptInRequired"),
    ),
    NotFoundError: (
        _AGAIN,
        (
            "InvalidAMIID.NotFound",
            "NoSuchResourceException",
            "InvalidAMIID.Unavailable",
            "InvalidInstanceID.NotFound",
            "InvalidInstanceID.Malformed",
            "InvalidLaunchTemplateId.NotFound",
            "InvalidLaunchTemplateId.NotFoundException",
            "InvalidLaunchTemplateName.NotFoundException",
            "InvalidSubnetID.NotFound",
            "InvalidAMIID.NotFound",
            "NoSuchResourceException",
            "InvalidVolume.NotFound",
            "InvalidAttachment.NotFound",
            "QueueDoesNotExist",
            "AWS.SimpleQueueService.NonExistentQueue",
        ),
    ),
    ConflictError: (
        _AGAIN,
        (
            "IncorrectInstanceState",
            "IncorrectState",
            "InvalidAMIName.Duplicate",
            "IdempotentParameterMismatch",
            "IdempotentParameterMismatchError",
            "IdempotentInstanceTerminated",
            "IdempotentCallInProgress",
            "ResourceContention",
            "ResourceInUse",
            "VolumeInUse",
            "IncorrectModificationState",
            "ScalingActivityInProgress",
            "InstanceRefreshInProgress",
            "AlreadyExists",
        ),
    ),
}
_LOGIN_CODES: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "MissingAuthenticationToken",
    }
)
_MEANING: Final = {code: (kind, hint) for kind, (hint, codes) in _CODES.items() for code in codes}


def typed(code: str, message: str, where: str) -> PoolError:
    """The error that a code and message of AWS stand for."""
    said = f"{code}: {message}" if message else code
    if code in _LOGIN_CODES:
        return NotAuthorisedError(said, where=where, hint=_LOGIN)
    if code == "ValidationError" and "not found" in message.lower():
        return NotFoundError(said, where=where, hint="check the group's options")
    kind, hint = _MEANING.get(code, (PoolError, ""))
    return kind(said, where=where, hint=hint)


@contextmanager
def calling(where: str) -> Iterator[None]:
    """Turn what the SDK raises inside into our errors.

    Raises:
        PoolError: the call failed; which of its kinds says what may be done about it.
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        HTTPClientError,
        NoCredentialsError,
        PartialCredentialsError,
        TokenRetrievalError,
    )

    try:
        yield
    except ClientError as e:
        error = e.response.get("Error", {})
        raise typed(str(error.get("Code", "")), str(error.get("Message", "")), where) from e
    except (NoCredentialsError, PartialCredentialsError, TokenRetrievalError) as e:
        raise NotAuthorisedError(f"no AWS credentials: {e}", where=where, hint=_LOGIN) from e
    except HTTPClientError as e:
        raise ThrottledError(f"AWS does not answer: {e}", where=where, hint=_BUSY) from e
    except BotoCoreError as e:
        raise PoolError(f"{type(e).__name__}: {e}", where=where) from e
