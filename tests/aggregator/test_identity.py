"""The parts of identity by themselves: tokens, allowances, the server's certificate and hostile bytes."""

import base64
import hashlib
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import enrolling
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import example, given
from hypothesis import strategies as st

from weighin_aggregator.errors import AuthorityError
from weighin_aggregator.identity import token
from weighin_aggregator.identity.authority import Authority
from weighin_aggregator.identity.certificates import has_signed, requested_key
from weighin_aggregator.identity.peer import address
from weighin_aggregator.identity.rate import Allowance
from weighin_aggregator.identity.server_certificate import ServerCertificate, renew_time
from weighin_aggregator.identity.terms import Terms

FINGERPRINT = "ab" * 32


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def utc(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


@pytest.mark.parametrize("at", ["127.0.0.1:50052", "weighin.example.org:1", "[::1]:65535", "a.b.c.d:50052"])
def test_a_token_reads_back_whatever_dots_its_host_has(at: str) -> None:
    text, made = token.make(at, FINGERPRINT)
    assert token.read(text) == made
    assert text.startswith(f"wt1.{at}.{FINGERPRINT}.{made.token_id}.")
    assert hashlib.sha256(text.rpartition(".")[2].encode()).digest() == made.secret_sha256


def test_two_tokens_share_neither_id_nor_secret() -> None:
    (_, one), (_, other) = (token.make("a:1", FINGERPRINT) for _ in range(2))
    assert one.token_id != other.token_id
    assert not one.matches(other.secret_sha256)
    assert one.matches(one.secret_sha256)
    assert not one.matches(None)


@given(st.text(max_size=300))
def test_what_is_no_token_is_read_as_none(text: str) -> None:
    assert token.read(text) is None


@given(st.integers(min_value=0, max_value=400), st.characters())
def test_a_token_with_another_character_is_another_or_none(place: int, character: str) -> None:
    text, made = token.make("weighin.example.org:50052", FINGERPRINT)
    start = len(text) - 60  # the id and the secret
    place = start + place % 60
    changed = text[:place] + character + text[place + 1 :]
    assert changed == text or token.read(changed) != made


@given(st.binary(max_size=600))
def test_bytes_that_are_no_request_for_a_certificate_are_none(csr: bytes) -> None:
    assert requested_key(csr) is None


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
@example(7, 57)  # its version
def test_a_request_with_a_changed_byte_is_none(place: int, flip: int) -> None:
    whole = enrolling.request_certificate(KEY)
    # The byte before the signature is signed by nobody: how many bits of its last byte are unused, which says nothing.
    unused_bits = len(whole) - len(x509.load_der_x509_csr(whole).signature) - 1
    csr = bytearray(whole)
    csr[place % len(csr)] ^= flip
    allowed = (None, KEY.public_key()) if place % len(csr) == unused_bits else (None,)
    assert requested_key(bytes(csr)) in allowed


KEY = enrolling.new_key()


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)], ids=["P-384", "RSA"]
)
def test_a_key_of_another_kind_is_not_taken(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    assert requested_key(request.public_bytes(serialization.Encoding.DER)) is None
    assert requested_key(enrolling.request_certificate(KEY)) == KEY.public_key()


# A serial number below zero, of which the library warns.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_certificate_with_a_changed_byte_is_nobodys_or_says_the_same(place: int, flip: int) -> None:
    chain = AUTHORITY.admit(KEY.public_key(), str(uuid.uuid4())).chain_pem
    der = bytearray(x509.load_pem_x509_certificate(chain).public_bytes(serialization.Encoding.DER))
    der[place % len(der)] ^= flip
    changed = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
    # One byte is signed by nobody and says nothing: how many bits of the signature's last byte are left unused.
    assert AUTHORITY.vouched(changed) in (None, AUTHORITY.vouched(chain))
    assert AUTHORITY.vouched(chain) is not None


@given(st.binary(max_size=100))
def test_bytes_that_are_no_signature_have_signed_nothing(signature: bytes) -> None:
    assert not has_signed(KEY.public_key(), signature, b"content")


@given(st.binary(max_size=2000))
def test_bytes_that_are_no_certificate_are_nobodys(pem: bytes) -> None:
    assert AUTHORITY.vouched(pem) is None
    assert AUTHORITY.vouched(b"-----BEGIN CERTIFICATE-----\n" + pem + b"\n-----END CERTIFICATE-----\n") is None


@pytest.fixture(scope="module", autouse=True)
def _authority(tmp_path_factory: pytest.TempPathFactory) -> None:
    global AUTHORITY  # noqa: PLW0603 - hypothesis takes no fixture of a function
    AUTHORITY = Authority.open(tmp_path_factory.mktemp("authority"))


AUTHORITY: Authority


def test_an_authority_is_made_once_and_read_ever_after(tmp_path: Path) -> None:
    assert Authority.open(tmp_path).fingerprint == Authority.open(tmp_path).fingerprint


def test_what_a_crash_left_of_an_authority_is_made_anew(tmp_path: Path) -> None:
    Authority.open(tmp_path)
    (tmp_path / "authority" / "ca.pem").unlink()
    (tmp_path / "authority" / ".ca.pem.unfinished").write_bytes(b"half")
    Authority.open(tmp_path)
    assert not (tmp_path / "authority" / ".ca.pem.unfinished").exists()


@pytest.mark.parametrize("spoilt", ["ca.key", "ca.pem"])
def test_an_authority_that_cannot_be_read_is_one_line_and_is_left_alone(tmp_path: Path, spoilt: str) -> None:
    Authority.open(tmp_path)
    path = tmp_path / "authority" / spoilt
    path.write_bytes(b"not PEM")
    with pytest.raises(
        AuthorityError, match=r"are no key and its certificate; bring them back from a backup"
    ) as caught:
        Authority.open(tmp_path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"not PEM"


def test_the_key_of_another_authority_is_told(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        Authority.open(tmp_path / name)
    (tmp_path / "other/authority/ca.key").replace(tmp_path / "one/authority/ca.key")
    with pytest.raises(AuthorityError, match="are no key and its certificate"):
        Authority.open(tmp_path / "one")


def test_a_missing_key_is_told_with_its_folder(tmp_path: Path) -> None:
    Authority.open(tmp_path)
    (tmp_path / "authority" / "ca.key").unlink()
    with pytest.raises(AuthorityError, match=r"cannot use the authority in .*: No such file or directory"):
        Authority.open(tmp_path)


def test_a_certificate_for_a_server_names_it_and_the_loopback(tmp_path: Path) -> None:
    credential = Authority.open(tmp_path).serve("weighin.example.org")
    leaf, authority = x509.load_pem_x509_certificates(credential.chain_pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["weighin.example.org", "localhost", "127.0.0.1"]
    leaf.verify_directly_issued_by(authority)


def test_a_server_certificate_is_kept_over_restarts_and_renewed_after_two_thirds_of_its_life(tmp_path: Path) -> None:
    clock = Clock()
    authority = Authority.open(tmp_path, clock.utc)
    certificate = ServerCertificate(authority, tmp_path, "127.0.0.1")
    first = certificate.current()
    assert ServerCertificate(authority, tmp_path, "127.0.0.1").current() == first
    due_seconds = (renew_time(first) - clock.utc()).total_seconds()
    assert due_seconds / 86_400 == pytest.approx(60, abs=0.1)
    clock.seconds += due_seconds - 1
    assert certificate.current() is first
    clock.seconds += 1
    second = certificate.current()
    assert second.expire_time > first.expire_time
    assert second.key_pem != first.key_pem
    assert certificate.current() is second
    assert ServerCertificate(authority, tmp_path, "127.0.0.1").current() == second


def test_a_server_of_another_name_gets_another_certificate(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    first = ServerCertificate(authority, tmp_path, "127.0.0.1").current()
    second = ServerCertificate(authority, tmp_path, "weighin.example.org").current()
    assert (first.name, second.name) == ("127.0.0.1", "weighin.example.org")


def test_a_server_certificate_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    clock = Clock()
    certificate = ServerCertificate(Authority.open(tmp_path, clock.utc), tmp_path, "127.0.0.1")
    first = certificate.current()
    # A folder in the way of the unfinished file.
    (tmp_path / "authority" / ".server.pem.unfinished").mkdir()
    clock.seconds += 61 * 86_400
    assert certificate.current() is first


def test_the_first_server_certificate_is_shown_though_it_cannot_be_written_and_kept_once_it_can(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    in_the_way = tmp_path / "authority" / ".server.pem.unfinished"
    in_the_way.mkdir()
    certificate = ServerCertificate(authority, tmp_path, "127.0.0.1")
    first = certificate.current()
    assert certificate.current() is first
    in_the_way.rmdir()
    second = certificate.current()
    assert certificate.current() is second
    assert ServerCertificate(authority, tmp_path, "127.0.0.1").current() == second


def allowance(clock: Callable[[], float], limit: int = 3, callers: int = 1000) -> Allowance:
    return Allowance(limit=limit, seconds=60, callers=callers, clock=clock)


def test_an_allowance_is_spent_and_comes_back_after_its_window() -> None:
    clock = Clock()
    failures = allowance(clock)
    for _ in range(3):
        assert failures.wait_seconds("a") == 0
        failures.spend("a")
        clock.seconds += 10
    assert failures.wait_seconds("a") == 30
    assert failures.wait_seconds("b") == 0
    clock.seconds += 30
    assert failures.wait_seconds("a") == 0
    failures.spend("a")
    assert failures.wait_seconds("a") == 0


def test_an_allowance_never_remembers_more_callers_than_it_may() -> None:
    clock = Clock()
    failures = allowance(clock, limit=1, callers=10)
    for number in range(1000):
        failures.spend(str(number))
    waiting = [number for number in range(1000) if failures.wait_seconds(str(number)) > 0]
    assert waiting == list(range(990, 1000))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(min_value=0, max_value=50)), max_size=60))
def test_nobody_gets_more_than_the_limit_in_any_window_of_its_own(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    failures = allowance(clock)
    granted: dict[str, list[float]] = {}
    for caller, passed in steps:
        clock.seconds += passed
        if failures.wait_seconds(caller) == 0:
            failures.spend(caller)
            granted.setdefault(caller, []).append(clock.seconds)
    for times in granted.values():
        begin, count = times[0], 0
        for time in times:
            if time >= begin + 60:
                begin, count = time, 0
            count += 1
            assert count <= 3


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("ipv4:192.0.2.7:5000", "192.0.2.7"),
        ("ipv6:[2001:db8:1:2:3:4:5:6]:5000", "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2:ffff::1%5D:5000", "2001:db8:1:2::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:5000", "fe80::/64"),
        ("ipv6:%5B::ffff:192.0.2.7%5D:5000", "192.0.2.7"),
    ],
)
def test_failures_are_counted_by_address_or_by_network(peer: str, counted: str) -> None:
    assert address(peer) == counted


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"group": ""}, "group"),
        ({"group": "a" * 65}, "group"),
        ({"group": "a\nb"}, "group"),
        ({"use_count": 0}, "uses"),
        ({"use_count": 1_000_001}, "uses"),
        ({"lifetime_seconds": 59}, "ttl"),
        ({"lifetime_seconds": 367 * 86_400}, "ttl"),
    ],
)
def test_terms_that_cannot_be_are_named(changed: dict[str, object], named: str) -> None:
    terms = {"group": "lab-a", "use_count": 1, "lifetime_seconds": 60}
    assert Terms(**terms).broken() is None  # type: ignore[arg-type]
    broken = Terms(**(terms | changed)).broken()  # type: ignore[arg-type]
    assert broken is not None
    assert broken.startswith(f"{named}: must be 1 ")
