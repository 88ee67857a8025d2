"""`pruning.data.datasets` under its public name, for ``from pruning.datasets import …``."""

import sys

from pruning.data import datasets
from pruning.data.datasets import DataError as DataError
from pruning.data.datasets import Dataset as Dataset
from pruning.data.datasets import Split as Split
from pruning.data.datasets import load as load
from pruning.data.datasets import status as status

sys.modules[__name__] = datasets  # one module under both names
