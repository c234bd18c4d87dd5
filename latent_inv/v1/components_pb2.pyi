from latent_inv.v1 import data_pb2 as _data_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Loss(_message.Message):
    __slots__ = ("pixel", "perceptual", "latent_prior", "total_variation", "noise_correlation")
    PIXEL_FIELD_NUMBER: _ClassVar[int]
    PERCEPTUAL_FIELD_NUMBER: _ClassVar[int]
    LATENT_PRIOR_FIELD_NUMBER: _ClassVar[int]
    TOTAL_VARIATION_FIELD_NUMBER: _ClassVar[int]
    NOISE_CORRELATION_FIELD_NUMBER: _ClassVar[int]
    pixel: Pixel
    perceptual: Perceptual
    latent_prior: LatentPrior
    total_variation: TotalVariation
    noise_correlation: NoiseCorrelation
    def __init__(self, pixel: _Optional[_Union[Pixel, _Mapping]] = ..., perceptual: _Optional[_Union[Perceptual, _Mapping]] = ..., latent_prior: _Optional[_Union[LatentPrior, _Mapping]] = ..., total_variation: _Optional[_Union[TotalVariation, _Mapping]] = ..., noise_correlation: _Optional[_Union[NoiseCorrelation, _Mapping]] = ...) -> None: ...

class Pixel(_message.Message):
    __slots__ = ("weight", "kind", "delta")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Pixel.Kind]
        KIND_L1: _ClassVar[Pixel.Kind]
        KIND_L2: _ClassVar[Pixel.Kind]
        KIND_HUBER: _ClassVar[Pixel.Kind]
    KIND_UNSPECIFIED: Pixel.Kind
    KIND_L1: Pixel.Kind
    KIND_L2: Pixel.Kind
    KIND_HUBER: Pixel.Kind
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    weight: float
    kind: Pixel.Kind
    delta: float
    def __init__(self, weight: _Optional[float] = ..., kind: _Optional[_Union[Pixel.Kind, str]] = ..., delta: _Optional[float] = ...) -> None: ...

class Perceptual(_message.Message):
    __slots__ = ("weight",)
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    weight: float
    def __init__(self, weight: _Optional[float] = ...) -> None: ...

class LatentPrior(_message.Message):
    __slots__ = ("weight",)
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    weight: float
    def __init__(self, weight: _Optional[float] = ...) -> None: ...

class TotalVariation(_message.Message):
    __slots__ = ("weight",)
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    weight: float
    def __init__(self, weight: _Optional[float] = ...) -> None: ...

class NoiseCorrelation(_message.Message):
    __slots__ = ("weight",)
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    weight: float
    def __init__(self, weight: _Optional[float] = ...) -> None: ...

class Observation(_message.Message):
    __slots__ = ("identity",)
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    identity: Identity
    def __init__(self, identity: _Optional[_Union[Identity, _Mapping]] = ...) -> None: ...

class Identity(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Solver(_message.Message):
    __slots__ = ("adam", "levenberg_marquardt", "gauss_newton", "l_bfgs", "cma_es", "hybrid_cma", "auto")
    ADAM_FIELD_NUMBER: _ClassVar[int]
    LEVENBERG_MARQUARDT_FIELD_NUMBER: _ClassVar[int]
    GAUSS_NEWTON_FIELD_NUMBER: _ClassVar[int]
    L_BFGS_FIELD_NUMBER: _ClassVar[int]
    CMA_ES_FIELD_NUMBER: _ClassVar[int]
    HYBRID_CMA_FIELD_NUMBER: _ClassVar[int]
    AUTO_FIELD_NUMBER: _ClassVar[int]
    adam: Adam
    levenberg_marquardt: LevenbergMarquardt
    gauss_newton: GaussNewton
    l_bfgs: LBFGS
    cma_es: CMAES
    hybrid_cma: HybridCMA
    auto: Auto
    def __init__(self, adam: _Optional[_Union[Adam, _Mapping]] = ..., levenberg_marquardt: _Optional[_Union[LevenbergMarquardt, _Mapping]] = ..., gauss_newton: _Optional[_Union[GaussNewton, _Mapping]] = ..., l_bfgs: _Optional[_Union[LBFGS, _Mapping]] = ..., cma_es: _Optional[_Union[CMAES, _Mapping]] = ..., hybrid_cma: _Optional[_Union[HybridCMA, _Mapping]] = ..., auto: _Optional[_Union[Auto, _Mapping]] = ...) -> None: ...

class Auto(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Adam(_message.Message):
    __slots__ = ("learning_rate", "schedule", "warmup_steps", "beta1", "beta2", "epsilon", "typical", "exploration")
    class Schedule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SCHEDULE_UNSPECIFIED: _ClassVar[Adam.Schedule]
        SCHEDULE_COSINE: _ClassVar[Adam.Schedule]
        SCHEDULE_CONSTANT: _ClassVar[Adam.Schedule]
        SCHEDULE_RAMPS: _ClassVar[Adam.Schedule]
    SCHEDULE_UNSPECIFIED: Adam.Schedule
    SCHEDULE_COSINE: Adam.Schedule
    SCHEDULE_CONSTANT: Adam.Schedule
    SCHEDULE_RAMPS: Adam.Schedule
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    WARMUP_STEPS_FIELD_NUMBER: _ClassVar[int]
    BETA1_FIELD_NUMBER: _ClassVar[int]
    BETA2_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    TYPICAL_FIELD_NUMBER: _ClassVar[int]
    EXPLORATION_FIELD_NUMBER: _ClassVar[int]
    learning_rate: float
    schedule: Adam.Schedule
    warmup_steps: int
    beta1: float
    beta2: float
    epsilon: float
    typical: float
    exploration: float
    def __init__(self, learning_rate: _Optional[float] = ..., schedule: _Optional[_Union[Adam.Schedule, str]] = ..., warmup_steps: _Optional[int] = ..., beta1: _Optional[float] = ..., beta2: _Optional[float] = ..., epsilon: _Optional[float] = ..., typical: _Optional[float] = ..., exploration: _Optional[float] = ...) -> None: ...

class LevenbergMarquardt(_message.Message):
    __slots__ = ("damping", "decrease", "increase", "largest_damping", "tolerance", "terms", "chords", "jacobian")
    class Terms(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        TERMS_UNSPECIFIED: _ClassVar[LevenbergMarquardt.Terms]
        TERMS_ALL: _ClassVar[LevenbergMarquardt.Terms]
        TERMS_PIXEL: _ClassVar[LevenbergMarquardt.Terms]
    TERMS_UNSPECIFIED: LevenbergMarquardt.Terms
    TERMS_ALL: LevenbergMarquardt.Terms
    TERMS_PIXEL: LevenbergMarquardt.Terms
    class Jacobian(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        JACOBIAN_UNSPECIFIED: _ClassVar[LevenbergMarquardt.Jacobian]
        JACOBIAN_AUTO: _ClassVar[LevenbergMarquardt.Jacobian]
        JACOBIAN_FULL: _ClassVar[LevenbergMarquardt.Jacobian]
    JACOBIAN_UNSPECIFIED: LevenbergMarquardt.Jacobian
    JACOBIAN_AUTO: LevenbergMarquardt.Jacobian
    JACOBIAN_FULL: LevenbergMarquardt.Jacobian
    DAMPING_FIELD_NUMBER: _ClassVar[int]
    DECREASE_FIELD_NUMBER: _ClassVar[int]
    INCREASE_FIELD_NUMBER: _ClassVar[int]
    LARGEST_DAMPING_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    CHORDS_FIELD_NUMBER: _ClassVar[int]
    JACOBIAN_FIELD_NUMBER: _ClassVar[int]
    damping: float
    decrease: float
    increase: float
    largest_damping: float
    tolerance: float
    terms: LevenbergMarquardt.Terms
    chords: int
    jacobian: LevenbergMarquardt.Jacobian
    def __init__(self, damping: _Optional[float] = ..., decrease: _Optional[float] = ..., increase: _Optional[float] = ..., largest_damping: _Optional[float] = ..., tolerance: _Optional[float] = ..., terms: _Optional[_Union[LevenbergMarquardt.Terms, str]] = ..., chords: _Optional[int] = ..., jacobian: _Optional[_Union[LevenbergMarquardt.Jacobian, str]] = ...) -> None: ...

class GaussNewton(_message.Message):
    __slots__ = ("inner", "damping", "decrease", "increase", "largest_damping", "tolerance")
    INNER_FIELD_NUMBER: _ClassVar[int]
    DAMPING_FIELD_NUMBER: _ClassVar[int]
    DECREASE_FIELD_NUMBER: _ClassVar[int]
    INCREASE_FIELD_NUMBER: _ClassVar[int]
    LARGEST_DAMPING_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    inner: int
    damping: float
    decrease: float
    increase: float
    largest_damping: float
    tolerance: float
    def __init__(self, inner: _Optional[int] = ..., damping: _Optional[float] = ..., decrease: _Optional[float] = ..., increase: _Optional[float] = ..., largest_damping: _Optional[float] = ..., tolerance: _Optional[float] = ...) -> None: ...

class LBFGS(_message.Message):
    __slots__ = ("memory", "first_step", "longest_step", "tolerance")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    LONGEST_STEP_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    memory: int
    first_step: float
    longest_step: float
    tolerance: float
    def __init__(self, memory: _Optional[int] = ..., first_step: _Optional[float] = ..., longest_step: _Optional[float] = ..., tolerance: _Optional[float] = ...) -> None: ...

class CMAES(_message.Message):
    __slots__ = ("sigma", "population")
    SIGMA_FIELD_NUMBER: _ClassVar[int]
    POPULATION_FIELD_NUMBER: _ClassVar[int]
    sigma: float
    population: int
    def __init__(self, sigma: _Optional[float] = ..., population: _Optional[int] = ...) -> None: ...

class HybridCMA(_message.Message):
    __slots__ = ("sigma", "population", "inner_steps", "learning_rate", "outer_share")
    SIGMA_FIELD_NUMBER: _ClassVar[int]
    POPULATION_FIELD_NUMBER: _ClassVar[int]
    INNER_STEPS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    OUTER_SHARE_FIELD_NUMBER: _ClassVar[int]
    sigma: float
    population: int
    inner_steps: int
    learning_rate: float
    outer_share: float
    def __init__(self, sigma: _Optional[float] = ..., population: _Optional[int] = ..., inner_steps: _Optional[int] = ..., learning_rate: _Optional[float] = ..., outer_share: _Optional[float] = ...) -> None: ...

class Initialiser(_message.Message):
    __slots__ = ("seeds", "prior_mean", "best_of", "given", "encoder", "halving", "auto", "lifted")
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    PRIOR_MEAN_FIELD_NUMBER: _ClassVar[int]
    BEST_OF_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    HALVING_FIELD_NUMBER: _ClassVar[int]
    AUTO_FIELD_NUMBER: _ClassVar[int]
    LIFTED_FIELD_NUMBER: _ClassVar[int]
    seeds: Seeds
    prior_mean: PriorMean
    best_of: BestOf
    given: Given
    encoder: Encoder
    halving: Halving
    auto: Auto
    lifted: Lifted
    def __init__(self, seeds: _Optional[_Union[Seeds, _Mapping]] = ..., prior_mean: _Optional[_Union[PriorMean, _Mapping]] = ..., best_of: _Optional[_Union[BestOf, _Mapping]] = ..., given: _Optional[_Union[Given, _Mapping]] = ..., encoder: _Optional[_Union[Encoder, _Mapping]] = ..., halving: _Optional[_Union[Halving, _Mapping]] = ..., auto: _Optional[_Union[Auto, _Mapping]] = ..., lifted: _Optional[_Union[Lifted, _Mapping]] = ...) -> None: ...

class Seeds(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class PriorMean(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BestOf(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class Encoder(_message.Message):
    __slots__ = ("passes", "count", "spread")
    PASSES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    passes: int
    count: int
    spread: float
    def __init__(self, passes: _Optional[int] = ..., count: _Optional[int] = ..., spread: _Optional[float] = ...) -> None: ...

class Halving(_message.Message):
    __slots__ = ("count", "rung")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    RUNG_FIELD_NUMBER: _ClassVar[int]
    count: int
    rung: int
    def __init__(self, count: _Optional[int] = ..., rung: _Optional[int] = ...) -> None: ...

class Lifted(_message.Message):
    __slots__ = ("steps", "radius")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    steps: int
    radius: float
    def __init__(self, steps: _Optional[int] = ..., radius: _Optional[float] = ...) -> None: ...

class Given(_message.Message):
    __slots__ = ("latents",)
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    latents: _data_pb2.Latents
    def __init__(self, latents: _Optional[_Union[_data_pb2.Latents, _Mapping]] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("steps", "seconds", "target_lpips", "target_psnr_db", "patience", "tolerance")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    TARGET_LPIPS_FIELD_NUMBER: _ClassVar[int]
    TARGET_PSNR_DB_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    steps: int
    seconds: float
    target_lpips: float
    target_psnr_db: float
    patience: int
    tolerance: float
    def __init__(self, steps: _Optional[int] = ..., seconds: _Optional[float] = ..., target_lpips: _Optional[float] = ..., target_psnr_db: _Optional[float] = ..., patience: _Optional[int] = ..., tolerance: _Optional[float] = ...) -> None: ...

class Reporting(_message.Message):
    __slots__ = ("progress_steps", "preview_steps", "preview_seconds", "checkpoint_steps")
    PROGRESS_STEPS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_STEPS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_STEPS_FIELD_NUMBER: _ClassVar[int]
    progress_steps: int
    preview_steps: int
    preview_seconds: float
    checkpoint_steps: int
    def __init__(self, progress_steps: _Optional[int] = ..., preview_steps: _Optional[int] = ..., preview_seconds: _Optional[float] = ..., checkpoint_steps: _Optional[int] = ...) -> None: ...
