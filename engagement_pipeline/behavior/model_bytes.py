"""Fitted models as bytes and back, without pickle, and what must be known of them beside the bytes.

Here belongs which types a model may be made of. Where the bytes are kept belongs to the warehouse;
how a model is fitted, to who fits it.
"""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import polars as pl

from engagement_pipeline.behavior.churn_models import Estimator, ServedModel

_CONTAINERS = {
    ("builtins.dict", "DictNode"),
    ("builtins.list", "ListNode"),
    ("builtins.tuple", "TupleNode"),
    ("builtins.str", "JsonNode"),
    ("builtins.str", "TypeNode"),
    ("builtins.slice", "SliceNode"),
}
_NUMBERS = {
    ("numpy.ndarray", "NdArrayNode"),
    ("numpy.dtype", "DTypeNode"),
    *((f"numpy.{name}", "NdArrayNode") for name in ("bool", "float32", "float64", "int64")),
    ("numpy.uint64", "NdArrayNode"),
    ("numpy.float64", "TypeNode"),
    ("numpy.random._generator.Generator", "RandomGeneratorNode"),
    ("numpy.random.mtrand.RandomState", "RandomStateNode"),
}
_STEPS = {
    ("numpy.arcsinh", "FunctionNode"),
    *(
        (f"sklearn.{name}", "ObjectNode")
        for name in (
            "compose._column_transformer.ColumnTransformer",
            "impute._base.MissingIndicator",
            "impute._base.SimpleImputer",
            "pipeline.Pipeline",
            "preprocessing._data.StandardScaler",
            "preprocessing._encoders.OneHotEncoder",
            "preprocessing._function_transformer.FunctionTransformer",
            "preprocessing._label.LabelEncoder",
        )
    ),
}
_MODELS = {
    ("sklearn.tree._tree.Tree", "TreeNode"),
    ("sklearn._loss._loss.CyHalfBinomialLoss", "LossNode"),
    ("sklearn._loss._loss.CyHalfSquaredError", "LossNode"),
    *(
        (f"sklearn.{name}", "ObjectNode")
        for name in (
            "_loss.link.IdentityLink",
            "_loss.link.Interval",
            "_loss.link.LogitLink",
            "_loss.loss.HalfBinomialLoss",
            "_loss.loss.HalfSquaredError",
            "dummy.DummyRegressor",
            "ensemble._forest.RandomForestClassifier",
            "ensemble._gb.GradientBoostingRegressor",
            "ensemble._hist_gradient_boosting.binning._BinMapper",
            "ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
            "ensemble._hist_gradient_boosting.predictor.TreePredictor",
            "linear_model._logistic.LogisticRegression",
            "tree._classes.DecisionTreeClassifier",
            "tree._classes.DecisionTreeRegressor",
        )
    ),
}
TRUSTED = frozenset(_CONTAINERS | _NUMBERS | _STEPS | _MODELS)
"""What our models are made of: each type, and how the format says that it is to be loaded.

skops trusts all of scikit-learn by itself, which is more than we write; and it is the way of
loading that tells a function to be called from a name that is only kept.
"""

_ASKED_FOR = (
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
)
"""What skops does not trust unless told to. Trees are among them: that a file's trees point only to
nodes that exist nobody checks, so a forged file can end the process. A damaged one is known by its
checksum before it comes here."""


class ForeignModelError(ValueError):
    """Bytes, or a model, of types that are none of ours; the text names them."""


class DamagedModelError(ValueError):
    """Bytes or a report that no model can be made of."""


def to_bytes(estimator: object) -> bytes:
    """A fitted model in the format of `skops.io`, which holds no code.

    The bytes of equal models differ: the format numbers parts by where they are in memory.

    Raises:
        ForeignModelError: the model is of types that `from_bytes` would refuse.
    """
    # skops asks scikit-learn for all of its estimators when it is imported, which takes seconds.
    from skops.io import dumps

    data: bytes = dumps(estimator, compression=zipfile.ZIP_DEFLATED)
    _refuse_foreign(data)
    return data


def from_bytes(data: bytes) -> Any:
    """The model that was made into these bytes.

    Raises:
        ForeignModelError: it is made of anything that is not in `TRUSTED`. Nothing of it is loaded.
        DamagedModelError: the bytes are none of a model, or not all of them.
    """
    from skops.io import loads

    try:
        _refuse_foreign(data)
        return loads(data, trusted=list(_ASKED_FOR))
    except ForeignModelError:
        raise
    # What is damaged can break any part of what reads it, each with an error of its own.
    except Exception as error:
        raise DamagedModelError(
            f"{len(data)} bytes are no model: {type(error).__name__}: {error}"
        ) from error


def model_report(model: ServedModel, metrics: pl.DataFrame) -> dict[str, Any]:
    """What is kept beside the bytes: all of the model but the estimator, and how good it is.

    Args:
        model: the model.
        metrics: rows of `behavior.model_metrics` of its training.

    Returns:
        Texts, numbers, lists and mappings, as JSON has them.
    """
    raw, calibrated = model.knots
    own = metrics.filter(pl.col("model") == model.name).sort("metric")
    return {
        "target": model.target,
        "name": model.name,
        "as_of": model.as_of.isoformat(),
        "horizon_days": model.horizon_days,
        "feature_names": list(model.feature_names),
        "knots": {"raw": list(raw), "calibrated": list(calibrated)},
        "metrics": {
            row["metric"]: {end: row[end] for end in ("value", "lower", "upper", "n")}
            for row in own.iter_rows(named=True)
        },
    }


def restored(data: bytes, report: Mapping[str, Any], *, target: str) -> ServedModel:
    """A model from its bytes and its report.

    Args:
        data: the model.
        report: what was kept beside it.
        target: what it must predict.

    Raises:
        ForeignModelError: as `from_bytes`.
        DamagedModelError: as `from_bytes`; or the report lacks something, or it is not as it was.
    """
    estimator: Estimator = from_bytes(data)
    try:
        knots = report["knots"]
        model = ServedModel(
            target=str(report["target"]),
            name=str(report["name"]),
            feature_names=tuple(str(name) for name in report["feature_names"]),
            horizon_days=int(report["horizon_days"]),
            as_of=datetime.fromisoformat(report["as_of"]),
            estimator=estimator,
            knots=(
                tuple(float(at) for at in knots["raw"]),
                tuple(float(at) for at in knots["calibrated"]),
            ),
        )
        _refuse_untrue(model, target)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedModelError(
            f"the report of the model is not as it was written: {type(error).__name__}: {error}"
        ) from error
    return model


def _refuse_untrue(model: ServedModel, target: str) -> None:
    if model.target != target:
        raise ValueError(f"target: expected {target}, found {model.target}")
    if model.as_of.utcoffset() is None:
        raise ValueError(f"as_of: expected a time zone, found none in {model.as_of.isoformat()}")
    raw, calibrated = model.knots
    is_map = len(raw) == len(calibrated) > 0 and all(0 <= at <= 1 for at in (*raw, *calibrated))
    if not is_map or sorted(raw) != list(raw) or sorted(calibrated) != list(calibrated):
        raise ValueError("knots: expected as many as rise from 0 to 1 on both sides")


def _refuse_foreign(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        schema = json.loads(file.read("schema.json"))
    foreign = sorted({f"{name} ({loader})" for name, loader in set(_types(schema)) - TRUSTED})
    if foreign:
        raise ForeignModelError(f"a model of ours is not made of {', '.join(foreign)}")


def _types(schema: object) -> Iterator[tuple[str, str]]:
    """Each type that a file speaks of, and how it says to load it."""
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if "__class__" in node or "__loader__" in node:
                name = f"{node.get('__module__')}.{node.get('__class__')}"
                yield name, str(node.get("__loader__"))
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
