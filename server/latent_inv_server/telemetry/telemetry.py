"""All that a server tells of itself, put together."""

from __future__ import annotations

from latent_inv_server.config import ServerConfig

from .calls import Calls
from .collector import Readings, Sources
from .exporter import Exporter
from .jobs import JobsTold
from .meters import Meters
from .traces import NO_TRACES, Traces


class Telemetry:
    """Figures and traces of one server; those of two in one process have nothing in common.

    Attributes:
        meters: what is counted. calls: the interceptor that watches all calls. jobs: is told what happens to jobs.
        port: where the figures can be read; None: nowhere.
    """

    def __init__(self, config: ServerConfig, traces: Traces = NO_TRACES) -> None:
        self._config, self._traces = config, traces
        self.meters = Meters()
        self.calls = Calls(self.meters, traces)
        self.jobs = JobsTold(self.meters, traces)
        self._exporter: Exporter | None = None

    @property
    def port(self) -> int | None:
        """See above."""
        return None if self._exporter is None else self._exporter.port

    def start(self, sources: Sources) -> None:
        """Read figures from `sources` as well, and open the port for them if there is to be one.

        Raises:
            UnavailableError: it is in use.
        """
        self.meters.collect(Readings(sources))
        if self._config.metrics_port is not None:
            self._exporter = Exporter(self.meters.registry, self._config.metrics_host, self._config.metrics_port)

    def close(self) -> None:
        """Close the port, and send what is left of the traces. May take a second; may be called again."""
        exporter, self._exporter = self._exporter, None
        if exporter is not None:
            exporter.close()
        self.jobs.close()
        self._traces.close()
