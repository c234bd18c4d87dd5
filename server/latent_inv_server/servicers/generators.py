"""Generators: described, sampled, encoded, decoded; straight from the engine, with no job."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import grpc.aio

from latent_inv import convert
from latent_inv.errors import InputError
from latent_inv.result import Residents
from latent_inv.spec import DescribeSpec, ResidenceSpec
from latent_inv.v1 import generator_service_pb2 as generators
from latent_inv.v1 import generator_service_pb2_grpc as generators_grpc
from latent_inv_server.artifacts import Artifacts
from latent_inv_server.config import ServerConfig
from latent_inv_server.dispatcher import Dispatcher
from latent_inv_server.door.identity import caller

Context = grpc.aio.ServicerContext[Any, Any]


class GeneratorServicer(generators_grpc.GeneratorServiceServicer):
    """Generators."""

    def __init__(self, dispatcher: Dispatcher, artifacts: Artifacts, config: ServerConfig) -> None:
        self._dispatcher, self._artifacts, self._config = dispatcher, artifacts, config

    async def ListGenerators(
        self, request: generators.ListGeneratorsRequest, context: Context
    ) -> generators.ListGeneratorsResponse:
        described = await self._dispatcher.ask(DescribeSpec())
        return generators.ListGeneratorsResponse(generators=[convert.info_to(info) for info in described.generators])

    async def GetGenerator(
        self, request: generators.GetGeneratorRequest, context: Context
    ) -> generators.GetGeneratorResponse:
        if not request.name:
            raise InputError("a generator must be named, found none", field="name")
        described = await self._dispatcher.ask(DescribeSpec(generator=request.name))
        return generators.GetGeneratorResponse(generator=convert.info_to(described.generators[0]))

    async def Sample(self, request: generators.SampleRequest, context: Context) -> generators.SampleResponse:
        sampled = await self._dispatcher.ask(convert.sample_spec(request))
        return await self._dispatcher.in_thread(lambda: convert.sampled_to(sampled))

    async def Encode(self, request: generators.EncodeRequest, context: Context) -> generators.EncodeResponse:
        limits, contents = self._config.image_limits, self._artifacts.contents(caller().name)
        spec = await self._dispatcher.in_thread(lambda: convert.encode_spec(request, limits, contents))
        encoded = await self._dispatcher.ask(spec)
        return await self._dispatcher.in_thread(lambda: convert.encoded_to(encoded))

    async def Decode(self, request: generators.DecodeRequest, context: Context) -> generators.DecodeResponse:
        decoded = await self._dispatcher.ask(convert.decode_spec(request))
        return await self._dispatcher.in_thread(lambda: convert.decoded_to(decoded))

    async def ListLoadedGenerators(
        self, request: generators.ListLoadedGeneratorsRequest, context: Context
    ) -> generators.ListLoadedGeneratorsResponse:
        answer = await self._everywhere(ResidenceSpec(), generators.ListLoadedGeneratorsResponse)
        return cast(generators.ListLoadedGeneratorsResponse, answer)

    async def LoadGenerator(
        self, request: generators.LoadGeneratorRequest, context: Context
    ) -> generators.LoadGeneratorResponse:
        answer = await self._everywhere(convert.load_spec(request), generators.LoadGeneratorResponse)
        return cast(generators.LoadGeneratorResponse, answer)

    async def UnloadGenerator(
        self, request: generators.UnloadGeneratorRequest, context: Context
    ) -> generators.UnloadGeneratorResponse:
        spec = ResidenceSpec(action="unload", generator=request.generator)
        return cast(
            generators.UnloadGeneratorResponse, await self._everywhere(spec, generators.UnloadGeneratorResponse)
        )

    async def _everywhere(self, spec: ResidenceSpec, kind: type[Any]) -> Any:
        """Ask each worker; they answer side by side."""
        asked = [self._dispatcher.ask(replace(spec, device=device)) for device in self._dispatcher.devices]
        each: list[Residents] = list(await asyncio.gather(*asked))
        return convert.residents_to(each, kind)
