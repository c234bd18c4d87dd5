"""Jobs that outlive the call that made them, for the blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from latent_inv.ask import choose_generator
from latent_inv.errors import UnavailableError
from latent_inv.result import Preview, Progress
from latent_inv.v1 import job_service_pb2 as wire
from latent_inv.v1 import job_service_pb2_grpc as wire_grpc

from .job import Followed, Follower, Job, job_from, list_request, no_end, page_size
from .messages import create_request

if TYPE_CHECKING:
    from .blocking import Client


class Jobs:
    """The jobs of a client's owner on a server: `client.jobs`."""

    def __init__(self, client: Client, stub: wire_grpc.JobServiceStub) -> None:
        self._client, self._stub = client, stub

    def create(
        self,
        image: Any,
        generator: str = "",
        *,
        request_id: str = "",
        labels: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> Job:
        """Queue a job, and come back at once.

        Args:
            request_id: chosen by you to make retries safe: the same id and arguments give the same job.
            labels: for `list`, at most 16.
            arguments: as those of `Client.invert_stream`.
        Raises:
            AlreadyExistsError: the request_id was used with other arguments.
            LimitError: too many jobs are waiting; `retry_after` says when to try again.
        """
        generator = choose_generator(generator, arguments.get("start"))
        request = create_request(
            image,
            generator,
            arguments,
            request_id=request_id,
            labels=labels,
            info=lambda: self._client.generator(generator),
        )
        self._client.artifacts.spare(request, [request.spec.image, request.spec.weight])
        with self._client._errors():
            return job_from(self._stub.CreateJob(request, timeout=self._client.timeout).job)

    def get(self, job_id: str) -> Job:
        """One job, with its result if it has one.

        Raises:
            NotFoundError: there is none of yours with this id.
        """
        with self._client._errors():
            return job_from(self._stub.GetJob(wire.GetJobRequest(job_id=job_id), timeout=self._client.timeout).job)

    def list(
        self, states: Sequence[str] = (), labels: Mapping[str, str] | None = None, limit: int | None = None
    ) -> Iterator[Job]:
        """Your jobs, newest first, without their results; asks for further pages as they are needed.

        Args:
            states: only those in these states; empty: all.
            labels: only those with all of these labels.
            limit: most jobs; None: all there are.
        """
        request = list_request(states, labels, page_size(limit))
        left = limit
        while True:
            with self._client._errors():
                page = self._stub.ListJobs(request, timeout=self._client.timeout)
            found = page.jobs if left is None else page.jobs[:left]
            yield from map(job_from, found)
            left = None if left is None else left - len(found)
            if left == 0 or not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def cancel(self, job_id: str) -> None:
        """Stop a job within one step; its best latents so far are kept. Harmless if it is over.

        Raises:
            NotFoundError: there is none of yours with this id.
        """
        with self._client._errors():
            self._stub.CancelJob(wire.CancelJobRequest(job_id=job_id), timeout=self._client.timeout)

    def delete(self, job_id: str) -> None:
        """Remove a job that is over, with its result.

        Raises:
            NotFoundError: there is none of yours with this id. StateError: it is not over.
        """
        with self._client._errors():
            self._stub.DeleteJob(wire.DeleteJobRequest(job_id=job_id), timeout=self._client.timeout)

    def watch(self, job_id: str, *, after: int = 0, patience: float = 60.0) -> Iterator[Followed]:
        """Progress and previews, and the job as it ended as the last value. Leaving the loop does not affect the job.

        A line that breaks is made anew, and goes on where it was.

        Args:
            after: number of the last event that is known, as `Job.sequence`; 0: all that are kept.
            patience: seconds without a word from the server after which it is given up.
        Raises:
            NotFoundError: there is none of yours with this id.
            UnavailableError: the server was away for longer than `patience`.
        """
        follower = Follower(job_id, after, patience)
        while True:
            call = self._stub.WatchJob(follower.request())
            try:
                with self._client._errors():
                    for message in call:
                        event = follower.take(message)
                        if event is not None:
                            yield event
                        if isinstance(event, Job):
                            return
                raise no_end()
            except UnavailableError as error:
                pause = follower.pause(error)
            finally:
                call.cancel()  # gRPC does not cancel a call that nobody reads any more
            time.sleep(pause)

    def wait(
        self,
        job_id: str,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_preview: Callable[[Preview], None] | None = None,
        patience: float = 60.0,
    ) -> Job:
        """Watch a job to its end.

        Returns:
            the job as it ended, which may be in failure: see its `state`.
        """
        for event in self.watch(job_id, patience=patience):
            if isinstance(event, Job):
                return event
            if isinstance(event, Progress) and on_progress is not None:
                on_progress(event)
            if isinstance(event, Preview) and on_preview is not None:
                on_preview(event)
        raise no_end()
