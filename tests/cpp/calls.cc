// The calls of calls.c, by C++.
#define CALLS calls_cxx
#define LANGUAGE "C++"
#include "calls.c"
