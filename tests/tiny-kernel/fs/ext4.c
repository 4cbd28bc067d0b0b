#include "tiny.h"
#include "autoconf.h"

int ext4(int inode)
{
#ifdef CONFIG_EXT4
	return inode * 3;
#else
	return inode * 2;
#endif
}
