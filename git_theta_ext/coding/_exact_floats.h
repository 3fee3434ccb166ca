/* For extension modules that compute with floating-point numbers: every operation rounds to the type of its operands, as in
   numpy. setup.py has the option that other compilers need for this. */

#pragma once

#include <float.h>

#if FLT_EVAL_METHOD != 0
#error "the extension needs operations that round to the type of their operands"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif
