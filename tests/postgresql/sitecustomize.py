"""What Python imports when it starts, where this folder is on PYTHONPATH: for the programs that the tests start."""

import homes_there

homes_there.install()
