"""`pruning.networks.models` under its public name, for ``from pruning.models import …``."""

import sys

from pruning.networks import models
from pruning.networks.models import cifar_resnet as cifar_resnet
from pruning.networks.models import mlp as mlp
from pruning.networks.models import narrow_sizes as narrow_sizes
from pruning.networks.models import weight_count as weight_count

sys.modules[__name__] = models  # one module under both names
