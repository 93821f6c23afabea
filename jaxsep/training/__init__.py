"""Training Open-Unmix: :func:`fit` for a whole run, :func:`train_step` for those who write their own loop."""

from jaxsep.config import TrainingConfig
from jaxsep.training.fit import TrainResult, fit
from jaxsep.training.history import Epoch, History
from jaxsep.training.muon import muon
from jaxsep.training.schedule import Plateau, Schedule, Stopping
from jaxsep.training.state import TrainState, adam_with_l2, init_state, kept_variables, stack, unstack
from jaxsep.training.statistics import Statistics, measure
from jaxsep.training.step import Augment, StepReport, eval_step, train_step
from jaxsep.training.validation import song_losses

__all__ = [
    "Augment",
    "Epoch",
    "History",
    "Plateau",
    "Schedule",
    "Statistics",
    "StepReport",
    "Stopping",
    "TrainResult",
    "TrainState",
    "TrainingConfig",
    "adam_with_l2",
    "eval_step",
    "fit",
    "init_state",
    "kept_variables",
    "measure",
    "muon",
    "song_losses",
    "stack",
    "train_step",
    "unstack",
]
