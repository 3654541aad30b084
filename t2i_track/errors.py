"""What can go wrong, as a tree.

T2IError
├── SettingsError          a setting has an impossible value
├── ManifestError          captions or prompts cannot be read
├── ModelError             a pipeline cannot be loaded
│   └── PickledWeights     the model has only pickled weights
├── DatabaseError          the run database cannot be used
│   ├── NoDatabase         there is none yet
│   ├── SchemaTooOld       run `t2i db upgrade`
│   ├── SchemaTooNew       the code is older than the database
│   ├── NotFound           no run or image has that address
│   └── Ambiguous          several have it
├── MetricError            a score cannot be computed
│   ├── ExtractorUnavailable   its weights are not here
│   ├── BadImages          unreadable or wrong-sized pictures
│   └── ProtocolMismatch   a run does not follow a named protocol
├── TransferError          pictures cannot be imported, or data exported
├── CompareError           there is nothing that can be ranked
├── LabelError             a failure case cannot be stored
├── SealError              a run cannot be sealed or audited, or a file is no seal
├── TrackingError          MLflow cannot be reached, or fails in a way that may pass
│   ├── Unreachable        it does not answer, or not in time
│   ├── Refused            it will never take this
│   └── Missing            it has no such run, or it is deleted
├── ClusterError           Ray's workers cannot be had, or do not fit together
├── NotMade                workers could not make some pictures, in several attempts
├── Busy                   another process is making or sending this run, or running this sweep
└── Interrupted            stopped by the user; resumable

Every message is one line: what is wrong, the offending value, and what to do next. The library raises these and
never click's; ``cli`` turns them into one line on stderr and exit status 1. Classes of other modules that are caught
where they are raised, and never reach a user, stand there.
"""

from __future__ import annotations


class T2IError(Exception):
    """Base of all errors that a user can do something about."""


class SettingsError(T2IError):
    pass


class ManifestError(T2IError):
    pass


class ModelError(T2IError):
    pass


class PickledWeights(ModelError):
    pass


class DatabaseError(T2IError):
    pass


class NoDatabase(DatabaseError):
    pass


class SchemaTooOld(DatabaseError):
    pass


class SchemaTooNew(DatabaseError):
    pass


class NotFound(DatabaseError):
    pass


class Ambiguous(DatabaseError):
    pass


class MetricError(T2IError):
    pass


class ExtractorUnavailable(MetricError):
    pass


class BadImages(MetricError):
    pass


class ProtocolMismatch(MetricError):
    pass


class TransferError(T2IError):
    pass


class CompareError(T2IError):
    pass


class LabelError(T2IError):
    pass


class SealError(T2IError):
    pass


class TrackingError(T2IError):
    pass


class Unreachable(TrackingError):
    pass


class Refused(TrackingError):
    pass


class Missing(TrackingError):
    pass


class ClusterError(T2IError):
    pass


class NotMade(T2IError):
    pass


class Busy(T2IError):
    pass


class Interrupted(T2IError):
    pass
