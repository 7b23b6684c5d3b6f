# GeoSAM-ES. Two commands do everything on a fresh machine:
#   make demo     encode an orthophoto, click, write polygons and a picture into demo/   (IMAGE=path.tif for your own)
#   make test     set up what the tests need, check the code, run every test
# Others:
#   make lint     ruff, mypy and the layering alone
#   make train-mini DATA=folder   train the embedded model from scratch (hours)
#   make clean    remove the environment and everything made

PYTHON ?= python3
VENV ?= .venv
# The tests use PyTorch's CPU build where pip offers one. torchvision is left out on purpose: beside a CPU build of
# PyTorch the one on PyPI does not import, and the tests cover the way without it.
TORCH ?= torch==2.13.0
IMAGE ?=
DATA ?=

PIP = $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet

.PHONY: help demo test lint train-mini clean

help:
	@sed -n '2,8s/^# *//p' Makefile

demo: $(VENV)/.demo
	$(VENV)/bin/python -m encoder_tools.demo $(if $(IMAGE),"$(IMAGE)")

test: lint
	$(VENV)/bin/python -m pytest

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

train-mini: $(VENV)/.test
	$(VENV)/bin/geosam-es train-mini --out runs/mini $(if $(DATA),--data "$(DATA)")

$(VENV)/.demo: $(VENV)/bin/activate pyproject.toml
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/activate pyproject.toml
	$(PIP) '$(TORCH)'
	$(PIP) -e '.[dev]' segment-anything onnx
	@touch $@ $(VENV)/.demo

# Debian's Python comes without the part that makes environments.
$(VENV)/bin/activate:
	@if ! $(PYTHON) -m venv $(VENV) >/dev/null 2>&1; then \
	  rm -rf $(VENV); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null; \
	  else \
	    echo "Missing: sudo apt-get install python3-venv   (then run make again)" >&2; exit 1; \
	  fi; \
	  $(PYTHON) -m venv $(VENV); \
	fi

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
