#ifndef PHALANX_CUCX_H
#define PHALANX_CUCX_H
#endif
