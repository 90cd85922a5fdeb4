#include "vmm/core/page_walk.h"
