#include "cprotocol.h"
