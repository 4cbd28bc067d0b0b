#include "tiny.h"

void start(void)
{
	filemap(ext4(1));
	for (;;)
		;
}
