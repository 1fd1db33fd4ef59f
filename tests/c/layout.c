#include <stdio.h>

#include "externref.h"

int main(void)
{
    printf("REF_COUNT_OFFSET %zu\n", offsetof(VMExternData, ref_count));
    printf("VALUE_PTR_OFFSET %zu\n", offsetof(VMExternData, value_ptr));
    printf("VTABLE_OFFSET %zu\n", offsetof(VMExternData, vtable));
    printf("FOOTER_SIZE %zu\n", sizeof(VMExternData));
    printf("DROP_SLOW_OFFSET %zu\n", offsetof(VMExternVTable, drop_slow));
    printf("ABI_VERSION %d\n", EXTERNREF_ABI_VERSION);
    return 0;
}
