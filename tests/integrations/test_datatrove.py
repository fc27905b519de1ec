"""datatrove's pipelines keep what the reference keeps, and their records of the others say nothing of them."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader, ParquetReader
from datatrove.pipeline.writers import JsonlWriter, ParquetWriter
from datatrove.utils.logging import logger

import ledger
from ledger import times
from ledger.integrations.datatrove import ConsentFilter
from tests.integrations.drawn import draw
from tests.shards.deciding import HISTORY, T0
from tests.shards.world import World
