#ifndef PHALANX_CKernels_H
#define PHALANX_CKernels_H
#endif
