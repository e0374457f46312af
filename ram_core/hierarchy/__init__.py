"""What is a kind of what: a dog is an animal. From WordNet, above the classes of ImageNet.

wordnet     the hierarchy, over any vocabulary;  shipped.json  its data, under WORDNET-LICENCE.txt
upper_tags  the words above the classes that are tags of ``lite``, chosen by hand;  ship  makes the data
"""
