#include "cucx.h"
