import msgspec
import pytest

from sipcore.errors import RecordError, RecordVersionError
from sipcore.record import (
    DialogRecord,
    EarlyRecord,
    Lease,
    Party,
    Record,
    decode,
    encode,
    seal,
    seal_header,
    unseal,
)

DIALOG = DialogRecord(call_id=b"c", key=b"1234567", caller=Party(tag=b"a"), callees=[Party(tag=b"b")])
EARLY = EarlyRecord(call_id=b"c", caller_tag=b"a", cseq=1, vias=b"Via: x\r\n", source=("127.0.0.1", 5060), listener=0)
LEASE = Lease(kind="relay", pod="m-0", uid="u", set="m", ordinal=0)


@pytest.mark.parametrize("record", [DIALOG, EARLY, LEASE], ids=lambda r: type(r).__name__)
def test_a_record_reads_back(record: Record) -> None:
    assert decode(encode(record), type(record)) == record


def test_unknown_trailing_fields_are_ignored() -> None:
    fields = msgspec.msgpack.decode(encode(LEASE))
    assert decode(msgspec.msgpack.encode([*fields, "new", {"x": 1}]), Lease) == LEASE


@pytest.mark.parametrize("change", [lambda f: f, lambda f: [f[0], {"another": "shape"}]], ids=["same", "other shape"])
def test_a_newer_major_version_is_refused_loudly(change) -> None:  # type: ignore[no-untyped-def]
    fields = msgspec.msgpack.decode(encode(LEASE))
    with pytest.raises(RecordVersionError, match="Lease: major version 2, this release reads 1"):
        decode(msgspec.msgpack.encode(change([2, *fields[1:]])), Lease)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x01", b"\x93\x01\x01\x01"])
def test_bytes_that_are_no_record_say_so(data: bytes) -> None:
    with pytest.raises(RecordError, match="DialogRecord"):
        decode(data, DialogRecord)


def test_a_sealed_value_begins_with_what_a_script_compares() -> None:
    value = seal(b"D", 513, 7, DIALOG)
    assert value.startswith(seal_header(b"D", 513, 7))
    assert unseal(value, DialogRecord) == (513, 7, DIALOG)


@pytest.mark.parametrize("data", [b"", b"D\x01\x00"])
def test_a_value_without_a_whole_header_is_refused(data: bytes) -> None:
    with pytest.raises(RecordError, match="at least 8 expected"):
        unseal(data, DialogRecord)


def test_a_lease_that_is_cordoned_or_not_ready_has_no_room() -> None:
    lease = Lease(kind="relay", pod="m-0", uid="u", set="m", ordinal=0, capacity=10, active=4, ready=True)
    assert lease.room == 6
    lease.cordoned = True
    assert lease.room == 0
