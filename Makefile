# GeoSAM-ES. Two commands do everything on a fresh machine:
#   make demo     encode an orthophoto, click, write polygons and a picture into demo/   (IMAGE=path.tif for your own)
#   make test     set up what the tests need, check the code, run every test
# Others:
#   make bench    measure speed beside what it is compared with: benchmarks/, docs/performance.md   (twenty minutes)
#   make lint     ruff, mypy and the layering alone
#   make test-qgis   the tests of the QGIS plugin alone   (SUITE=trixie or forky: in that Debian's QGIS, as root)
#   make zip      the plugin as QGIS installs it, into dist/geosam_es.zip
#   make translations   bring the translations in step with the sources, and build them for a QGIS run from here
#   make train-mini DATA=folder   train the embedded model from scratch (hours)
#   make measure-mini DATA=folder   measure it, and write the figures and pictures into its card and pages (minutes)
#   make clean    remove the environment and everything made

PYTHON ?= python3
VENV ?= .venv
# QGIS's own Python, which sees the qgis package and QGIS's numpy.
QGIS_PYTHON ?= /usr/bin/python3
QGIS_VENV ?= .venv-qgis
# The tests use PyTorch's CPU build where pip offers one. torchvision is left out on purpose: beside a CPU build of
# PyTorch the one on PyPI does not import, and the tests cover the way without it.
TORCH ?= torch==2.13.0
# One process a core, each file in one of them.
PYTEST_OPTIONS ?= -n auto --dist loadfile
IMAGE ?=
DATA ?=

QGIS_PACKAGES = python3-qgis qgis qgis-providers python3-venv qttools5-dev-tools
QGIS_PLUGINS ?= /usr/share/qgis/python/plugins

PIP = $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet

.PHONY: help demo test system test-core test-qgis bench lint zip translations lrelease train-mini measure-mini clean

help:
	@sed -n '2,13s/^# *//p' Makefile

demo: $(VENV)/.demo
	$(VENV)/bin/python -m encoder_tools.demo $(if $(IMAGE),"$(IMAGE)")

test: system lint test-core test-qgis

test-core: $(VENV)/.test
	$(VENV)/bin/python -m pytest $(PYTEST_OPTIONS) --ignore tests/qgis

# QGIS and Qt's compiler of translations, where they are missing and may be installed.
system:
	@if [ -z "$(LRELEASE)" ] || ! $(QGIS_PYTHON) -c 'import qgis.core' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(QGIS_PACKAGES) >/dev/null; \
	  else \
	    echo "Missing: sudo apt-get install $(QGIS_PACKAGES)" >&2; \
	  fi; \
	fi

# Without QGIS these tests are left out, and that is said aloud.
ifdef SUITE
test-qgis:
	.ci/qgis-suite $(SUITE)
else
test-qgis: system
	@if $(QGIS_PYTHON) -c 'import qgis.core' 2>/dev/null; then \
	  $(MAKE) --no-print-directory $(QGIS_VENV)/.test && \
	  QT_QPA_PLATFORM=offscreen PYTHONPATH=$(QGIS_PLUGINS) $(QGIS_VENV)/bin/python -m pytest $(PYTEST_OPTIONS) tests/qgis; \
	else \
	  echo "SKIPPED: every test of the QGIS plugin, for want of QGIS" >&2; \
	fi
endif

# With nothing else running: the figures are quoted from here.
bench: $(VENV)/.test
	$(VENV)/bin/python -m benchmarks.speed -o benchmarks --fill benchmarks/README.md --fill docs/performance.md

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Qt's compiler of translations has another name on every system.
LRELEASE = $(firstword $(foreach tool,/usr/lib/qt5/bin/lrelease /usr/lib/qt6/bin/lrelease lrelease-qt5 lrelease,$(shell \
  command -v $(tool) 2>/dev/null)))
LANGUAGES = es

lrelease:
	@if [ -z "$(LRELEASE)" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qttools5-dev-tools >/dev/null; \
	  else \
	    echo "Missing: sudo apt-get install qttools5-dev-tools   (then run make again)" >&2; exit 1; \
	  fi; \
	fi

translations: $(VENV)/.demo lrelease
	$(VENV)/bin/python -m encoder_tools.translations
	$(LRELEASE) -silent $(LANGUAGES:%=geosam_es/i18n/geosam_es_%.ts)

# What is committed, under the one folder that QGIS expects, and the translations built from it; nothing else slips in.
ZIP ?= dist/geosam_es.zip
zip: lrelease
	@mkdir -p $(dir $(ZIP)) build/i18n
	@set -e; for language in $(LANGUAGES); do \
	  git show HEAD:geosam_es/i18n/geosam_es_$$language.ts >build/i18n/geosam_es_$$language.ts; \
	  $(LRELEASE) -silent build/i18n/geosam_es_$$language.ts; \
	done
	git archive --format=zip -o $(ZIP) \
	  --prefix=geosam_es/geosam_es/i18n/ $(LANGUAGES:%=--add-file=build/i18n/geosam_es_%.qm) --prefix=geosam_es/ HEAD \
	  __init__.py metadata.txt requirements.txt resources.qrc LICENSE README.md CHANGELOG.md geosam_es
	@echo "$(ZIP)"

train-mini: $(VENV)/.test
	$(VENV)/bin/geosam-es train-mini --out runs/mini $(if $(DATA),--data "$(DATA)")

MINI = geosam_es/models/mini
measure-mini: $(VENV)/.test
	$(VENV)/bin/python -m benchmarks.mini.evaluate $(if $(DATA),--data "$(DATA)") \
	  -o $(MINI)/evaluation.json --card $(MINI)/MODEL_CARD.md --page docs/mini.md
	$(VENV)/bin/python -m benchmarks.mini.robustness $(if $(DATA),--data "$(DATA)") --page docs/mini.md
	$(VENV)/bin/python -m benchmarks.mini.failures $(if $(DATA),--data "$(DATA)") --page docs/mini_failures.md

$(VENV)/.demo: $(VENV)/bin/activate pyproject.toml
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/activate pyproject.toml
	$(PIP) '$(TORCH)'
	$(PIP) -e '.[dev]' segment-anything onnx
	@touch $@ $(VENV)/.demo

# numpy stays QGIS's own, which its osgeo was built for.
$(QGIS_VENV)/.test: pyproject.toml requirements.txt
	$(QGIS_PYTHON) -m venv --system-site-packages $(QGIS_VENV)
	$(QGIS_VENV)/bin/python -m pip --disable-pip-version-check install --quiet -r requirements.txt
	$(QGIS_VENV)/bin/python -m pip --disable-pip-version-check install --quiet 'attrs>=24' -e '.[qgis-test]' \
	  "numpy==$$($(QGIS_PYTHON) -c 'import numpy; print(numpy.__version__)')"
	@touch $@

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
	rm -rf $(VENV) $(QGIS_VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
