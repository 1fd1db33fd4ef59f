from setuptools import Extension, setup

import externref

setup(ext_modules=[Extension("downstream", ["downstream.pyx"], include_dirs=[externref.get_include()])])
