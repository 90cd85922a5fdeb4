// The crossings into L2 and back are those of our other guest hypervisors.
#include "guest-tests/guests/vmx_enter.S"
#include "guest-tests/guests/svm_enter.S"
#include "examples/blue-pill/blue_pill.S"
