"""Which service is on which port, and who may call it."""

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from weighin_aggregator.identity import register
from weighin_aggregator.identity.authority import Authority
from weighin_aggregator.identity.peer import by_certificate
from weighin_aggregator.identity.server_certificate import ServerCertificate
from weighin_aggregator.limits import DEFAULT_LIMITS, Limits
from weighin_aggregator.serve.deletion_service import DataDeletion
from weighin_aggregator.serve.enrollment_service import ENROLLMENT_SERVICE, CredentialRenewal, EnrollmentService
from weighin_aggregator.serve.gate import CertifiedGate, PlainGate
from weighin_aggregator.serve.health import HealthReporter
from weighin_aggregator.serve.operator_service import OPERATOR_SERVICE, Enrolling, OperatorService
from weighin_aggregator.serve.ports import Endpoint, bind, enrollment_server, joined, run_server, tls
from weighin_aggregator.serve.run_service import RUN_SERVICE, RunService
from weighin_aggregator.serve.service import Calls, Handler
from weighin_aggregator.serve.serving import Serving
from weighin_aggregator.store.authority import authority_of
from weighin_aggregator.store.commit import Committer
from weighin_aggregator.store.snapshot import SNAPSHOTS
from weighin_aggregator.store.store import Store
from weighin_aggregator.store.upkeep import Upkeep

_OPERATOR_ENDPOINT = Endpoint(host="127.0.0.1", port=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secure:
    """What mutual TLS needs: the name that devices know the server by, and the port where they enrol."""

    name: str
    enroll: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a server needs to know. Without ``secure`` it serves plain text, and ``run`` is a loopback address."""

    data: Path
    run: Endpoint
    secure: Secure | None = None
    limits: Limits = field(default_factory=lambda: DEFAULT_LIMITS)


class Assembly:
    """The parts of one server process. Raises ListenError, AuthorityError, StoreError."""

    def __init__(self, config: Config, store: Store, health: HealthReporter) -> None:
        self._config = config
        self._limits = config.limits
        self._health = health
        self._roster = store.transact(register.read_roster)
        self.calls = Calls()
        self.committer = Committer(store, config.limits, health.set, self._roster.require_welcome)
        self.upkeep = Upkeep(config.data.absolute(), self.committer, config.limits)
        self.servers: list[grpc.aio.Server] = []
        run_address, enroll_address, enrolling = (
            self._plain() if config.secure is None else self._secured(config.secure, authority_of(config.data, store))
        )
        secret = secrets.token_urlsafe(32)
        self.operator = OperatorService(
            self.committer,
            config.limits,
            self._roster,
            secret=secret,
            snapshots=config.data.absolute() / SNAPSHOTS,
            upkeep=self.upkeep,
            enrolling=enrolling,
        )
        server, port = self._bound(_OPERATOR_ENDPOINT, "", None)
        self._offer(server, OPERATOR_SERVICE, self.operator.methods())
        self.serving = Serving(
            pid=os.getpid(),
            run_address=run_address,
            enroll_address=enroll_address,
            operator_address=joined(_OPERATOR_ENDPOINT.host, port),
            operator_secret=secret,
        )

    def _plain(self) -> tuple[str, None, None]:
        server, port = self._bound(self._config.run, "--listen", None)
        gate = PlainGate(self._roster)
        self._offer(
            server,
            RUN_SERVICE,
            {
                **RunService(self.committer, self._limits, gate).methods(),
                **DataDeletion(self.committer, self._roster, gate).methods(),
            },
        )
        return joined(self._config.run.host, port), None, None

    def _secured(self, secure: Secure, authority: Authority) -> tuple[str, str, Enrolling]:
        certificate = ServerCertificate(authority, self._config.data, secure.name)
        gate = CertifiedGate(by_certificate(authority), self._roster, self._limits)
        trusted = authority.certificate_pem

        run, run_port = self._bound(self._config.run, "--listen", tls(certificate, trusted, for_devices=True))
        self._offer(
            run,
            RUN_SERVICE,
            {
                **RunService(self.committer, self._limits, gate).methods(),
                **DataDeletion(self.committer, self._roster, gate).methods(),
                **CredentialRenewal(self._limits, authority, gate).methods(),
            },
        )
        enroll, enroll_port = self._bound(
            secure.enroll,
            "--enroll-listen",
            tls(certificate, trusted, for_devices=False),
            enrollment_server,
        )
        enrollment = EnrollmentService(
            self.committer, self._limits, authority, self._roster, run_address=joined(secure.name, run_port)
        )
        self._offer(enroll, ENROLLMENT_SERVICE, enrollment.methods())
        return (
            joined(self._config.run.host, run_port),
            joined(secure.enroll.host, enroll_port),
            Enrolling(address=joined(secure.name, enroll_port), authority_fingerprint=authority.fingerprint),
        )

    def _bound(
        self,
        endpoint: Endpoint,
        option: str,
        credentials: grpc.ServerCredentials | None,
        make: Callable[[Limits], grpc.aio.Server] = run_server,
    ) -> tuple[grpc.aio.Server, int]:
        server = make(self._limits)
        self._health.offer(server)
        self.servers.append(server)
        return server, bind(server, endpoint, option, credentials)

    def _offer(self, server: grpc.aio.Server, service: str, methods: Mapping[str, Handler]) -> None:
        server.add_generic_rpc_handlers((self.calls.handlers(service, methods),))
