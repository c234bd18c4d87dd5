from latent_inv.v1 import data_pb2 as _data_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LatentPart(_message.Message):
    __slots__ = ("shape", "prior", "constraint", "role", "labels")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    PRIOR_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    prior: str
    constraint: str
    role: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., prior: _Optional[str] = ..., constraint: _Optional[str] = ..., role: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class LatentSpace(_message.Message):
    __slots__ = ("parts",)
    class PartsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: LatentPart
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[LatentPart, _Mapping]] = ...) -> None: ...
    PARTS_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.MessageMap[str, LatentPart]
    def __init__(self, parts: _Optional[_Mapping[str, LatentPart]] = ...) -> None: ...

class Generator(_message.Message):
    __slots__ = ("name", "title", "height", "width", "stride", "spaces", "default_space", "stages", "differentiable", "forward_mode", "has_encoder", "weights_sha256", "licence", "source", "scaling", "halves")
    class SpacesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: LatentSpace
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[LatentSpace, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    SPACES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_SPACE_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    DIFFERENTIABLE_FIELD_NUMBER: _ClassVar[int]
    FORWARD_MODE_FIELD_NUMBER: _ClassVar[int]
    HAS_ENCODER_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SCALING_FIELD_NUMBER: _ClassVar[int]
    HALVES_FIELD_NUMBER: _ClassVar[int]
    name: str
    title: str
    height: int
    width: int
    stride: int
    spaces: _containers.MessageMap[str, LatentSpace]
    default_space: str
    stages: _containers.RepeatedScalarFieldContainer[str]
    differentiable: bool
    forward_mode: bool
    has_encoder: bool
    weights_sha256: str
    licence: _containers.RepeatedScalarFieldContainer[str]
    source: str
    scaling: _data_pb2.Scaling
    halves: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., title: _Optional[str] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., stride: _Optional[int] = ..., spaces: _Optional[_Mapping[str, LatentSpace]] = ..., default_space: _Optional[str] = ..., stages: _Optional[_Iterable[str]] = ..., differentiable: _Optional[bool] = ..., forward_mode: _Optional[bool] = ..., has_encoder: _Optional[bool] = ..., weights_sha256: _Optional[str] = ..., licence: _Optional[_Iterable[str]] = ..., source: _Optional[str] = ..., scaling: _Optional[_Union[_data_pb2.Scaling, _Mapping]] = ..., halves: _Optional[_Iterable[str]] = ...) -> None: ...

class ListGeneratorsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListGeneratorsResponse(_message.Message):
    __slots__ = ("generators",)
    GENERATORS_FIELD_NUMBER: _ClassVar[int]
    generators: _containers.RepeatedCompositeFieldContainer[Generator]
    def __init__(self, generators: _Optional[_Iterable[_Union[Generator, _Mapping]]] = ...) -> None: ...

class GetGeneratorRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetGeneratorResponse(_message.Message):
    __slots__ = ("generator",)
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    generator: Generator
    def __init__(self, generator: _Optional[_Union[Generator, _Mapping]] = ...) -> None: ...

class LoadedGenerator(_message.Message):
    __slots__ = ("name", "memory_bytes", "formats", "users", "device")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    FORMATS_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    name: str
    memory_bytes: int
    formats: _containers.RepeatedScalarFieldContainer[str]
    users: int
    device: str
    def __init__(self, name: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., formats: _Optional[_Iterable[str]] = ..., users: _Optional[int] = ..., device: _Optional[str] = ...) -> None: ...

class ListLoadedGeneratorsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListLoadedGeneratorsResponse(_message.Message):
    __slots__ = ("generators", "budget_bytes")
    GENERATORS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    generators: _containers.RepeatedCompositeFieldContainer[LoadedGenerator]
    budget_bytes: int
    def __init__(self, generators: _Optional[_Iterable[_Union[LoadedGenerator, _Mapping]]] = ..., budget_bytes: _Optional[int] = ...) -> None: ...

class LoadGeneratorRequest(_message.Message):
    __slots__ = ("generator", "dtype", "precision")
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    generator: str
    dtype: _data_pb2.Dtype
    precision: _data_pb2.Precision
    def __init__(self, generator: _Optional[str] = ..., dtype: _Optional[_Union[_data_pb2.Dtype, str]] = ..., precision: _Optional[_Union[_data_pb2.Precision, str]] = ...) -> None: ...

class LoadGeneratorResponse(_message.Message):
    __slots__ = ("generators", "budget_bytes")
    GENERATORS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    generators: _containers.RepeatedCompositeFieldContainer[LoadedGenerator]
    budget_bytes: int
    def __init__(self, generators: _Optional[_Iterable[_Union[LoadedGenerator, _Mapping]]] = ..., budget_bytes: _Optional[int] = ...) -> None: ...

class UnloadGeneratorRequest(_message.Message):
    __slots__ = ("generator",)
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    generator: str
    def __init__(self, generator: _Optional[str] = ...) -> None: ...

class UnloadGeneratorResponse(_message.Message):
    __slots__ = ("generators", "budget_bytes", "freed_bytes")
    GENERATORS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREED_BYTES_FIELD_NUMBER: _ClassVar[int]
    generators: _containers.RepeatedCompositeFieldContainer[LoadedGenerator]
    budget_bytes: int
    freed_bytes: int
    def __init__(self, generators: _Optional[_Iterable[_Union[LoadedGenerator, _Mapping]]] = ..., budget_bytes: _Optional[int] = ..., freed_bytes: _Optional[int] = ...) -> None: ...

class SampleRequest(_message.Message):
    __slots__ = ("generator", "space", "seeds", "height", "width", "dtype", "conditions", "fixed", "precision")
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    FIXED_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    generator: str
    space: str
    seeds: _containers.RepeatedScalarFieldContainer[int]
    height: int
    width: int
    dtype: _data_pb2.Dtype
    conditions: str
    fixed: _data_pb2.Latents
    precision: _data_pb2.Precision
    def __init__(self, generator: _Optional[str] = ..., space: _Optional[str] = ..., seeds: _Optional[_Iterable[int]] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., dtype: _Optional[_Union[_data_pb2.Dtype, str]] = ..., conditions: _Optional[str] = ..., fixed: _Optional[_Union[_data_pb2.Latents, _Mapping]] = ..., precision: _Optional[_Union[_data_pb2.Precision, str]] = ...) -> None: ...

class SampleResponse(_message.Message):
    __slots__ = ("generator", "space", "weights_sha256", "seeds", "latents", "images", "scaling", "precision", "warnings")
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SCALING_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    generator: str
    space: str
    weights_sha256: str
    seeds: _containers.RepeatedScalarFieldContainer[int]
    latents: _data_pb2.Latents
    images: _data_pb2.Tensor
    scaling: _data_pb2.Scaling
    precision: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, generator: _Optional[str] = ..., space: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., seeds: _Optional[_Iterable[int]] = ..., latents: _Optional[_Union[_data_pb2.Latents, _Mapping]] = ..., images: _Optional[_Union[_data_pb2.Tensor, _Mapping]] = ..., scaling: _Optional[_Union[_data_pb2.Scaling, _Mapping]] = ..., precision: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class EncodeRequest(_message.Message):
    __slots__ = ("generator", "space", "image", "crop", "dtype", "precision")
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CROP_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    generator: str
    space: str
    image: _data_pb2.Image
    crop: _data_pb2.Box
    dtype: _data_pb2.Dtype
    precision: _data_pb2.Precision
    def __init__(self, generator: _Optional[str] = ..., space: _Optional[str] = ..., image: _Optional[_Union[_data_pb2.Image, _Mapping]] = ..., crop: _Optional[_Union[_data_pb2.Box, _Mapping]] = ..., dtype: _Optional[_Union[_data_pb2.Dtype, str]] = ..., precision: _Optional[_Union[_data_pb2.Precision, str]] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("generator", "space", "weights_sha256", "latents", "image", "precision", "warnings")
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    generator: str
    space: str
    weights_sha256: str
    latents: _data_pb2.Latents
    image: _data_pb2.Tensor
    precision: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, generator: _Optional[str] = ..., space: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., latents: _Optional[_Union[_data_pb2.Latents, _Mapping]] = ..., image: _Optional[_Union[_data_pb2.Tensor, _Mapping]] = ..., precision: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class DecodeRequest(_message.Message):
    __slots__ = ("generator", "latents", "dtype", "precision")
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    generator: str
    latents: _data_pb2.Latents
    dtype: _data_pb2.Dtype
    precision: _data_pb2.Precision
    def __init__(self, generator: _Optional[str] = ..., latents: _Optional[_Union[_data_pb2.Latents, _Mapping]] = ..., dtype: _Optional[_Union[_data_pb2.Dtype, str]] = ..., precision: _Optional[_Union[_data_pb2.Precision, str]] = ...) -> None: ...

class DecodeResponse(_message.Message):
    __slots__ = ("generator", "weights_sha256", "images", "precision", "warnings")
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    generator: str
    weights_sha256: str
    images: _data_pb2.Tensor
    precision: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, generator: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., images: _Optional[_Union[_data_pb2.Tensor, _Mapping]] = ..., precision: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...
