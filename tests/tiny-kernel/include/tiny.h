int filemap(int page);
int ext4(int inode);
