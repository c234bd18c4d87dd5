from latent_inv.v1 import components_pb2 as _components_pb2
from latent_inv.v1 import data_pb2 as _data_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BULK: _ClassVar[Priority]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_TARGET_REACHED: _ClassVar[Outcome]
    OUTCOME_CONVERGED: _ClassVar[Outcome]
    OUTCOME_STEP_LIMIT: _ClassVar[Outcome]
    OUTCOME_DEADLINE: _ClassVar[Outcome]
    OUTCOME_CANCELLED: _ClassVar[Outcome]
    OUTCOME_DIVERGED: _ClassVar[Outcome]
    OUTCOME_STUCK: _ClassVar[Outcome]
    OUTCOME_FAILED: _ClassVar[Outcome]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BULK: Priority
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_TARGET_REACHED: Outcome
OUTCOME_CONVERGED: Outcome
OUTCOME_STEP_LIMIT: Outcome
OUTCOME_DEADLINE: Outcome
OUTCOME_CANCELLED: Outcome
OUTCOME_DIVERGED: Outcome
OUTCOME_STUCK: Outcome
OUTCOME_FAILED: Outcome

class JobSpec(_message.Message):
    __slots__ = ("image", "weight", "crop", "generator", "space", "perceptual", "losses", "observation", "solver", "initialiser", "budget", "reporting", "seed", "priority", "lane_width", "dtype", "conditions", "fixed", "precision")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CROP_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    PERCEPTUAL_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    SOLVER_FIELD_NUMBER: _ClassVar[int]
    INITIALISER_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    REPORTING_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LANE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    FIXED_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    image: _data_pb2.Image
    weight: _data_pb2.Image
    crop: _data_pb2.Box
    generator: str
    space: str
    perceptual: str
    losses: _containers.RepeatedCompositeFieldContainer[_components_pb2.Loss]
    observation: _components_pb2.Observation
    solver: _components_pb2.Solver
    initialiser: _components_pb2.Initialiser
    budget: _components_pb2.Budget
    reporting: _components_pb2.Reporting
    seed: int
    priority: Priority
    lane_width: int
    dtype: _data_pb2.Dtype
    conditions: str
    fixed: _data_pb2.Latents
    precision: _data_pb2.Precision
    def __init__(self, image: _Optional[_Union[_data_pb2.Image, _Mapping]] = ..., weight: _Optional[_Union[_data_pb2.Image, _Mapping]] = ..., crop: _Optional[_Union[_data_pb2.Box, _Mapping]] = ..., generator: _Optional[str] = ..., space: _Optional[str] = ..., perceptual: _Optional[str] = ..., losses: _Optional[_Iterable[_Union[_components_pb2.Loss, _Mapping]]] = ..., observation: _Optional[_Union[_components_pb2.Observation, _Mapping]] = ..., solver: _Optional[_Union[_components_pb2.Solver, _Mapping]] = ..., initialiser: _Optional[_Union[_components_pb2.Initialiser, _Mapping]] = ..., budget: _Optional[_Union[_components_pb2.Budget, _Mapping]] = ..., reporting: _Optional[_Union[_components_pb2.Reporting, _Mapping]] = ..., seed: _Optional[int] = ..., priority: _Optional[_Union[Priority, str]] = ..., lane_width: _Optional[int] = ..., dtype: _Optional[_Union[_data_pb2.Dtype, str]] = ..., conditions: _Optional[str] = ..., fixed: _Optional[_Union[_data_pb2.Latents, _Mapping]] = ..., precision: _Optional[_Union[_data_pb2.Precision, str]] = ...) -> None: ...

class Metrics(_message.Message):
    __slots__ = ("psnr_db", "lpips", "mse")
    PSNR_DB_FIELD_NUMBER: _ClassVar[int]
    LPIPS_FIELD_NUMBER: _ClassVar[int]
    MSE_FIELD_NUMBER: _ClassVar[int]
    psnr_db: float
    lpips: float
    mse: float
    def __init__(self, psnr_db: _Optional[float] = ..., lpips: _Optional[float] = ..., mse: _Optional[float] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("step", "loss", "terms", "metrics", "seconds")
    class TermsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    step: int
    loss: float
    terms: _containers.ScalarMap[str, float]
    metrics: Metrics
    seconds: float
    def __init__(self, step: _Optional[int] = ..., loss: _Optional[float] = ..., terms: _Optional[_Mapping[str, float]] = ..., metrics: _Optional[_Union[Metrics, _Mapping]] = ..., seconds: _Optional[float] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("latest", "total_steps", "best_step", "best_loss", "best", "rows", "seconds_left")
    LATEST_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    BEST_STEP_FIELD_NUMBER: _ClassVar[int]
    BEST_LOSS_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    latest: Step
    total_steps: int
    best_step: int
    best_loss: float
    best: Metrics
    rows: int
    seconds_left: float
    def __init__(self, latest: _Optional[_Union[Step, _Mapping]] = ..., total_steps: _Optional[int] = ..., best_step: _Optional[int] = ..., best_loss: _Optional[float] = ..., best: _Optional[_Union[Metrics, _Mapping]] = ..., rows: _Optional[int] = ..., seconds_left: _Optional[float] = ...) -> None: ...

class Preview(_message.Message):
    __slots__ = ("step", "png")
    STEP_FIELD_NUMBER: _ClassVar[int]
    PNG_FIELD_NUMBER: _ClassVar[int]
    step: int
    png: bytes
    def __init__(self, step: _Optional[int] = ..., png: _Optional[bytes] = ...) -> None: ...

class JobResult(_message.Message):
    __slots__ = ("outcome", "message", "generator", "space", "weights_sha256", "perceptual", "perceptual_sha256", "metrics", "loss", "steps", "best_step", "seconds", "seed", "lane_width", "dtype", "device", "budget", "latents", "image", "target", "target_weight", "history", "settings_json", "versions", "warnings", "picked_json", "typicality", "scaling", "labels", "precision")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class TypicalityEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    PERCEPTUAL_FIELD_NUMBER: _ClassVar[int]
    PERCEPTUAL_SHA256_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    BEST_STEP_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    LANE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TARGET_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_JSON_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    PICKED_JSON_FIELD_NUMBER: _ClassVar[int]
    TYPICALITY_FIELD_NUMBER: _ClassVar[int]
    SCALING_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    message: str
    generator: str
    space: str
    weights_sha256: str
    perceptual: str
    perceptual_sha256: str
    metrics: Metrics
    loss: float
    steps: int
    best_step: int
    seconds: float
    seed: int
    lane_width: int
    dtype: _data_pb2.Dtype
    device: str
    budget: str
    latents: _data_pb2.Latents
    image: _data_pb2.Tensor
    target: _data_pb2.Tensor
    target_weight: _data_pb2.Tensor
    history: _containers.RepeatedCompositeFieldContainer[Step]
    settings_json: str
    versions: _containers.ScalarMap[str, str]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    picked_json: str
    typicality: _containers.ScalarMap[str, float]
    scaling: _data_pb2.Scaling
    labels: _containers.ScalarMap[str, str]
    precision: str
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., message: _Optional[str] = ..., generator: _Optional[str] = ..., space: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., perceptual: _Optional[str] = ..., perceptual_sha256: _Optional[str] = ..., metrics: _Optional[_Union[Metrics, _Mapping]] = ..., loss: _Optional[float] = ..., steps: _Optional[int] = ..., best_step: _Optional[int] = ..., seconds: _Optional[float] = ..., seed: _Optional[int] = ..., lane_width: _Optional[int] = ..., dtype: _Optional[_Union[_data_pb2.Dtype, str]] = ..., device: _Optional[str] = ..., budget: _Optional[str] = ..., latents: _Optional[_Union[_data_pb2.Latents, _Mapping]] = ..., image: _Optional[_Union[_data_pb2.Tensor, _Mapping]] = ..., target: _Optional[_Union[_data_pb2.Tensor, _Mapping]] = ..., target_weight: _Optional[_Union[_data_pb2.Tensor, _Mapping]] = ..., history: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., settings_json: _Optional[str] = ..., versions: _Optional[_Mapping[str, str]] = ..., warnings: _Optional[_Iterable[str]] = ..., picked_json: _Optional[str] = ..., typicality: _Optional[_Mapping[str, float]] = ..., scaling: _Optional[_Union[_data_pb2.Scaling, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., precision: _Optional[str] = ...) -> None: ...
