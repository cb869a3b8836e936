#ifndef PHALANX_CProtocol_H
#define PHALANX_CProtocol_H
#endif
