# GeoSAM-ES. Two commands do everything on a fresh machine:
#   make demo     encode an orthophoto, click, write polygons and a picture into demo/   (IMAGE=path.tif for your own)
#   make test     say what is missing, install it, check the code, run every test
# Others:
#   make bench    measure the speed against other tools: benchmarks/, docs/performance.md   (twenty minutes)
#   make soak     thirty kills, ten full disks and ten thousand clicks, into docs/reliability.md   (half an hour)
#   make bench-gpu   measure on this machine's GPU, into gpu/; says so if there is none   (ten minutes)
#   make lint     ruff, mypy and the layering
#   make test-core   the tests that need no QGIS
#   make test-qgis   the tests of the QGIS plugin   (SUITE=trixie or forky: in that Debian's QGIS, as root)
#   make zip      the plugin as QGIS installs it, into dist/geosam_es.zip
#   make bundle PYTHON=3.12 PLATFORM=windows   the zip beside the packages it needs, for QGIS without network, into dist/
#   make translations   update the translation files from the sources, and compile them
#   make train-mini DATA=folder   train the embedded model from scratch, in stages; resumes (hours)
#   make measure-mini DATA=folder   measure it, and update its card and pages (minutes)
#   make measure-finetuning DATA=folder   measure fine-tuning, and update its page (hours; goes on where it was stopped)
#   make clean    remove the environments and everything made

PYTHON ?= python3
VENV ?= .venv
# QGIS's own Python, which sees the qgis package and QGIS's numpy.
QGIS_PYTHON ?= /usr/bin/python3
QGIS_VENV ?= .venv-qgis
# Without torchvision: the one on PyPI does not import beside a CPU build of PyTorch.
TORCH ?= torch==2.13.0
# One process per core; all tests of a file run in one process. Files of few tests may take long, so they do not come last.
PYTEST_OPTIONS ?= -n auto --dist loadfile --no-loadscope-reorder
# The tests write and delete thousands of small files, which takes minutes on some disks but seconds in memory. They
# need little more than 1 GB there.
PYTEST_FOLDER = $(if $(TMPDIR),,$(shell [ -w /dev/shm ] && df -Pk /dev/shm | awk 'END {exit $$4 < 4000000}' \
  && awk '/^MemAvailable:/ {exit $$2 < 8000000}' /proc/meminfo && echo TMPDIR=/dev/shm))
IMAGE ?=
DATA ?=

QGIS_PLUGINS ?= /usr/share/qgis/python/plugins

# Qt's compiler of translations has a different name on every system.
LRELEASE = $(firstword $(foreach tool,/usr/lib/qt5/bin/lrelease /usr/lib/qt6/bin/lrelease lrelease-qt5 lrelease,$(shell \
  command -v $(tool) 2>/dev/null)))
LANGUAGES = es

# Debian packages that the tests need and this machine lacks.
MISSING_QGIS = $(strip $(shell $(QGIS_PYTHON) -c 'import qgis.core' 2>/dev/null || echo python3-qgis qgis qgis-providers) \
  $(shell $(PYTHON) -c 'import ensurepip' 2>/dev/null && $(QGIS_PYTHON) -c 'import ensurepip' 2>/dev/null || echo python3-venv) \
  $(if $(LRELEASE),,qttools5-dev-tools))
MISSING_POSTGIS = $(if $(GEOSAM_ES_POSTGIS)$(wildcard /usr/share/postgresql/*/extension/postgis.control),,postgresql-postgis)

# pip would compile everything that it installs. Python compiles the small part that is imported, and keeps it.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL = -m pip --disable-pip-version-check install --quiet --no-compile
PIP = $(VENV)/bin/python $(PIP_INSTALL)
TEST_PACKAGES = '$(TORCH)' -e '.[dev]' segment-anything onnx
QGIS_PIP = $(QGIS_VENV)/bin/python $(PIP_INSTALL)
QGIS_TEST_PACKAGES = -r requirements.txt 'attrs>=24' -e '.[qgis-test]'

.PHONY: help demo test plan system qgis-environment test-core test-qgis test-qgis-here bench soak bench-gpu lint zip bundle translations lrelease train-mini measure-mini measure-finetuning clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.demo
	$(VENV)/bin/python -m encoder_tools.demo $(if $(IMAGE),"$(IMAGE)")

test: plan $(VENV)/bin/activate
	@$(MAKE) --no-print-directory -j2 lint qgis-environment
	@$(MAKE) --no-print-directory test-core test-qgis

qgis-environment: system
	@! $(QGIS_PYTHON) -c 'import qgis.core' 2>/dev/null || $(MAKE) --no-print-directory $(QGIS_VENV)/.test

# What `make test` is about to install.
plan:
	@echo "make test installs, before it runs the tests:"
	@echo "  Debian packages, with apt-get as root: $(or $(strip $(MISSING_QGIS) $(MISSING_POSTGIS)),none missing)"
	@echo "  Python packages, with pip into $(VENV):" \
	  "$$([ $(VENV)/.test -nt pyproject.toml ] && echo none missing || echo "$(TEST_PACKAGES)")"
	@echo "  Python packages, with pip into $(QGIS_VENV):" \
	  "$$([ $(QGIS_VENV)/.test -nt pyproject.toml ] && echo none missing || echo "$(QGIS_TEST_PACKAGES)")"

test-core: $(VENV)/.test
	$(PYTEST_FOLDER) $(VENV)/bin/python -m pytest $(PYTEST_OPTIONS) --ignore tests/qgis

# Who is not root is told what to install, and the tests that need it are skipped.
system:
	@.ci/apt-install $(MISSING_QGIS) || [ "$$(id -u)" != 0 ]
	@.ci/apt-install $(MISSING_POSTGIS) || true

ifdef SUITE
test-qgis:
	.ci/qgis-suite $(SUITE)
else
test-qgis: system
	@if $(QGIS_PYTHON) -c 'import qgis.core' 2>/dev/null; then \
	  $(MAKE) --no-print-directory test-qgis-here; \
	else \
	  echo "SKIPPED: every test of the QGIS plugin, because QGIS is not installed" >&2; \
	fi
endif

test-qgis-here: $(QGIS_VENV)/.test
	$(PYTEST_FOLDER) QT_QPA_PLATFORM=offscreen PYTHONPATH=$(QGIS_PLUGINS) .ci/with-postgis \
	  $(QGIS_VENV)/bin/python -m pytest $(PYTEST_OPTIONS) tests/qgis

# Run nothing else meanwhile: the documentation quotes these figures.
bench: $(VENV)/.test
	$(VENV)/bin/python -m benchmarks.speed -o benchmarks --fill benchmarks/README.md --fill docs/performance.md --fill docs/models.md

soak: $(VENV)/.test
	$(VENV)/bin/python -m benchmarks.soak --page docs/reliability.md

bench-gpu: $(VENV)/.test
	$(VENV)/bin/python -m benchmarks.speed --only gpu -o gpu

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

lrelease:
	@.ci/apt-install $(if $(LRELEASE),,qttools5-dev-tools)

translations: $(VENV)/.demo lrelease
	$(VENV)/bin/python -m encoder_tools.translations
	$(LRELEASE) -silent $(LANGUAGES:%=geosam_es/i18n/geosam_es_%.ts)

# Only committed files, in the one folder that QGIS expects, and the translations compiled from them.
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

# PYTHON is a version here, and not the program that makes $(VENV).
PLATFORM ?= windows
bundle: zip
	@[ -e $(VENV)/bin/python ] || $(MAKE) PYTHON=python3 $(VENV)/.demo
	$(VENV)/bin/python -m encoder_tools.bundle $(ZIP) --python "$(PYTHON)" --platform "$(PLATFORM)" --out $(dir $(ZIP))

train-mini: $(VENV)/.test
	$(VENV)/bin/geosam-es train-mini --out runs/mini $(if $(DATA),--data "$(DATA)")

MINI = geosam_es/models/mini
measure-mini: $(VENV)/.test
	$(VENV)/bin/python -m benchmarks.mini.evaluate $(if $(DATA),--data "$(DATA)") \
	  -o $(MINI)/evaluation.json --card $(MINI)/MODEL_CARD.md --page docs/mini.md
	$(VENV)/bin/python -m benchmarks.mini.robustness $(if $(DATA),--data "$(DATA)") --page docs/mini.md
	$(VENV)/bin/python -m benchmarks.mini.small_objects $(if $(DATA),--data "$(DATA)") --limit 80 --page docs/mini.md
	$(VENV)/bin/python -m benchmarks.mini.outlines $(if $(DATA),--data "$(DATA)") --limit 40 --page docs/mini.md
	$(VENV)/bin/python -m benchmarks.mini.automatic $(if $(DATA),--data "$(DATA)") --page docs/automatic.md
	$(VENV)/bin/python -m benchmarks.mini.failures $(if $(DATA),--data "$(DATA)") --page docs/mini_failures.md

measure-finetuning: $(VENV)/.test
	$(VENV)/bin/python -m benchmarks.finetuning measure --work runs/finetuning $(if $(DATA),--data "$(DATA)")
	$(VENV)/bin/python -m benchmarks.finetuning train --work runs/finetuning $(if $(DATA),--data "$(DATA)")
	$(VENV)/bin/python -m benchmarks.finetuning measure --work runs/finetuning --kind fields $(if $(DATA),--data "$(DATA)")
	$(VENV)/bin/python -m benchmarks.finetuning classes --work runs/finetuning $(if $(DATA),--data "$(DATA)")
	$(VENV)/bin/python -m benchmarks.finetuning write --work runs/finetuning

$(VENV)/.demo: $(VENV)/bin/activate pyproject.toml
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/activate pyproject.toml
	$(PIP) $(TEST_PACKAGES)
	@touch $@ $(VENV)/.demo

# numpy stays QGIS's own: its osgeo was built for that one.
$(QGIS_VENV)/.test: pyproject.toml requirements.txt
	$(QGIS_PYTHON) -m venv --system-site-packages $(QGIS_VENV)
	$(QGIS_PIP) $(QGIS_TEST_PACKAGES) "numpy==$$($(QGIS_PYTHON) -c 'import numpy; print(numpy.__version__)')"
	@touch $@

# Debian's Python comes without the module that makes environments.
$(VENV)/bin/activate:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || .ci/apt-install python3-venv
	@$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) $(QGIS_VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -f geosam_es/i18n/*.qm
	find geosam_es encoder_tools benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +
