# rv: 24 targets in 6 stages
# Written by rvrun 0.2.0; `make help` tells what can be typed. Changes here will be lost.
#
# A file in done/ is touched when its target is done, so make sees what is missing or older than
# what it needs. chip.4/0 is split 0 of 4 of chip, chip.all joins its splits, `| folder` only
# asks that the folder is there; making one for a new number of splits forgets the old splits.

ifneq ($(strip $(value MAKEFILE_LIST)),Makefile)

# Called as `make -f DIR/Makefile`: begin again in DIR, for all paths below are relative to it.
.PHONY: forward
$(sort $(or $(MAKECMDGOALS),all)): forward ; @:
forward:
	@file='$(subst ','\'',$(value MAKEFILE_LIST))'; \
	cd "$$(dirname "$${file# }")" && $(MAKE) --no-print-directory $(MAKECMDGOALS)

else

RVRUN ?= rvrun
export RVRUN_RUN_DIR := $(CURDIR)

.DELETE_ON_ERROR:
.SUFFIXES:

.PHONY: all help clean
all: rv

help:
	@echo 'make -j8         run what is missing or out of date, 8 targets at a time'
	@echo 'make -n          only show it'
	@echo 'make -k          go on with what does not depend on a failed target'
	@echo 'make clean       forget what was done, and its records and logs'
	@echo ''
	@echo 'make rv          a pipeline'
	@echo 'make rv/analyze  a stage and what it needs'
	@echo 'make rv/chip     a stage and what it needs'
	@echo 'make rv/train    a stage and what it needs'
	@echo 'make rv/predict  a stage and what it needs'
	@echo 'make rv/eval     a stage and what it needs'
	@echo 'make rv/bundle   a stage and what it needs'
	@echo 'make rv/chip/0   split 0 of 4'

clean:
	rm -rf done records logs

# The indices of splits, for each number of them.
splits.4 := 0 1 2 3
splits.16 := 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15

# rv: 24 targets in 6 stages

.PHONY: rv rv/analyze rv/chip rv/train rv/predict rv/eval rv/bundle
rv: rv/analyze rv/chip rv/train rv/predict rv/eval rv/bundle

done/rv:
	@mkdir -p $@

rv/analyze: done/rv/analyze
done/rv/analyze: config/rv.json | done/rv
	cd ../.. && exec $(RVRUN) run_command runs/rv/config/rv.json analyze
	@touch $@

rv/chip: done/rv/chip.all
rv/chip/%: done/rv/chip.4/% ;
rv/chip.splits := $(addprefix done/rv/chip.4/,$(splits.4))
$(rv/chip.splits): done/rv/chip.4/%: done/rv/analyze config/rv.json | done/rv/chip.4
	cd ../.. && exec $(RVRUN) run_command runs/rv/config/rv.json chip --split-ind $* --num-splits 4
	@touch $@
done/rv/chip.4:
	@rm -rf done/rv/chip.*/ && mkdir -p $@
done/rv/chip.all: $(rv/chip.splits)
	@touch $@

rv/train: done/rv/train
done/rv/train: done/rv/chip.all config/rv.json | done/rv
	cd ../.. && exec $(RVRUN) run_command runs/rv/config/rv.json train
	@touch $@

rv/predict: done/rv/predict.all
rv/predict/%: done/rv/predict.16/% ;
rv/predict.splits := $(addprefix done/rv/predict.16/,$(splits.16))
$(rv/predict.splits): done/rv/predict.16/%: done/rv/train config/rv.json | done/rv/predict.16
	cd ../.. && exec $(RVRUN) run_command runs/rv/config/rv.json predict --split-ind $* --num-splits 16
	@touch $@
done/rv/predict.16:
	@rm -rf done/rv/predict.*/ && mkdir -p $@
done/rv/predict.all: $(rv/predict.splits)
	@touch $@

rv/eval: done/rv/eval
done/rv/eval: done/rv/predict.all config/rv.json | done/rv
	cd ../.. && exec $(RVRUN) run_command runs/rv/config/rv.json eval
	@touch $@

rv/bundle: done/rv/bundle
done/rv/bundle: done/rv/eval config/rv.json | done/rv
	cd ../.. && exec $(RVRUN) run_command runs/rv/config/rv.json bundle
	@touch $@

endif
