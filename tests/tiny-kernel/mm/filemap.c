#include "tiny.h"

int filemap(int page)
{
	if (page < 0)
		return -1;
	return page + 1;
}

int unused(int page)
{
	return page + 2;
}
